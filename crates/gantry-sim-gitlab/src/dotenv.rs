//! Dotenv reports: variables that one job hands to later ones (GitLab server,
//! `artifacts:reports:dotenv`). The file is a user's, so whatever is wrong with it is that user's
//! mistake and never a broken rule of the protocol.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::limits;

/// The variables of a report as it was uploaded, packed with gzip. The error is the sentence GitLab
/// refuses it with.
pub(crate) fn read(packed: impl Read) -> Result<Vec<(String, String)>, String> {
    let mut text = Vec::new();
    // One byte more than allowed is enough to know that it is too much.
    let mut unpacked = MultiGzDecoder::new(packed).take(limits::DOTENV + 1);
    unpacked.read_to_end(&mut text).map_err(|error| format!("the dotenv report is no gzip file: {error}"))?;
    if text.len() as u64 > limits::DOTENV {
        return Err(format!("the dotenv file is larger than {} bytes", limits::DOTENV));
    }
    let text = String::from_utf8(text).map_err(|_| "the dotenv file is not UTF-8".to_owned())?;
    parse(&text)
}

/// One `KEY=value` a line: quotes are part of the value, empty lines and comments are errors, the
/// last of a key counts.
fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let (key, value) = line.split_once('=').ok_or_else(|| format!("dotenv line {number} has no `=`"))?;
        let (key, value) = (key.trim(), value.trim());
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("dotenv line {number}: a name has only letters, digits and underscores"));
        }
        match variables.iter_mut().find(|(known, _)| known == key) {
            Some((_, earlier)) => value.clone_into(earlier),
            None => variables.push((key.to_owned(), value.to_owned())),
        }
    }
    if variables.len() > limits::DOTENV_VARIABLES {
        return Err(format!("the dotenv file has more than {} variables", limits::DOTENV_VARIABLES));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text).expect("packs");
        gzip.finish().expect("packs")
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn lines_are_taken_literally() {
        let read = read(packed(b"A=1\r\n B = x=y z \nQ=\"quoted\"\nA=2\nEMPTY=").as_slice());
        let expected = vec![pair("A", "2"), pair("B", "x=y z"), pair("Q", "\"quoted\""), pair("EMPTY", "")];
        assert_eq!(read, Ok(expected));
    }

    #[test]
    fn files_of_several_members_are_read_whole() {
        let both = [packed(b"A=1\n"), packed(b"B=2\n")].concat();
        assert_eq!(read(both.as_slice()), Ok(vec![pair("A", "1"), pair("B", "2")]));
    }

    #[test]
    fn what_gitlab_refuses_is_refused() {
        let many = (0..=limits::DOTENV_VARIABLES).map(|n| format!("V{n}=1\n")).collect::<Vec<_>>().concat();
        let large = format!("A={}", "x".repeat(5 * 1024));
        let cases: [&[u8]; 7] =
            [b"A=1\n\nB=2", b"# comment", b"A-B=1", "Ä=1".as_bytes(), b"A=\xff", many.as_bytes(), large.as_bytes()];
        for text in cases {
            assert!(read(packed(text).as_slice()).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
        assert!(read(&b"A=1"[..]).is_err(), "not packed");
    }
}
