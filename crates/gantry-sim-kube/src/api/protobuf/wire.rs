//! Protobuf as it is on the wire: fields of numbers and bytes.

/// What a field has on the wire.
pub(super) enum Item<'b> {
    Number(u64),
    Bytes(&'b [u8]),
    /// Numbers of fixed size, which no message of Kubernetes has.
    Other,
}

/// The fields of a message, in order; `None` inside where the bytes are broken, and then the end.
pub(super) struct Fields<'b>(pub(super) &'b [u8]);

impl<'b> Fields<'b> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: u64) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn field(&mut self) -> Option<(u64, Item<'b>)> {
        let key = self.number()?;
        let value = match key & 7 {
            0 => Item::Number(self.number()?),
            1 => self.take(8).map(|_| Item::Other)?,
            2 => {
                let length = self.number()?;
                Item::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Item::Other)?,
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = Option<(u64, Item<'b>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

pub(super) fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// Key and value of a map's entry.
pub(super) fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields(bytes) {
        match field? {
            (1, Item::Bytes(bytes)) => key = bytes,
            (2, Item::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Some((key, value))
}

fn put(to: &mut Vec<u8>, mut number: u64) {
    while let (low, rest @ 1..) = (number & 0x7f, number >> 7) {
        to.push(u8::try_from(low | 0x80).unwrap_or(u8::MAX));
        number = rest;
    }
    to.push(u8::try_from(number).unwrap_or(u8::MAX));
}

/// Writes a field with a number; negative ones as their two's complement.
pub(super) fn put_number(to: &mut Vec<u8>, field: u64, number: i64) {
    put(to, field << 3);
    put(to, number.cast_unsigned());
}

/// Writes a field with a text, bytes or a message.
pub(super) fn put_bytes(to: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put(to, field << 3 | 2);
    put(to, bytes.len() as u64);
    to.extend_from_slice(bytes);
}
