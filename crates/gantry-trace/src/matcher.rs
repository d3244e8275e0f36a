//! Finds several phrases at once in a stream that arrives in pieces (Aho and Corasick's automaton).
//! After every byte it knows the longest phrase that ends there, and how much of the end of the
//! text may still become one: what no library for searching whole texts tells.
//!
//! Nodes are sparse, so that a secret of many KiB costs a few dozen bytes per byte and not a table
//! row each.

/// The node of the empty text.
const ROOT: u32 = 0;

/// Phrases prepared for search.
#[derive(Default)]
pub(crate) struct Matcher {
    nodes: Vec<Node>,
    /// Where each byte leads from the root.
    first: Vec<u32>,
    /// Which two bytes can begin a phrase, a bit for each pair: of many values almost every byte
    /// begins one, but few pairs do.
    pairs: Vec<u64>,
}

/// Bits in a word of [`Matcher::pairs`].
const BITS: usize = u64::BITS as usize;

#[derive(Clone, Copy, Default)]
struct Node {
    /// The only child's byte and node; further children hang on `sibling` of the child.
    child: u32,
    sibling: u32,
    /// Node of the longest proper end of this node's text that begins a phrase.
    fail: u32,
    /// Length of this node's text.
    depth: u32,
    /// Length of the longest phrase that ends here; 0 for none.
    longest: u32,
    /// Length of the longest end of this node's text that can still grow into a phrase.
    pending: u32,
    byte: u8,
}

/// A place in the automaton: what is known about the end of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct State(u32);

impl Matcher {
    /// Prepares `phrases`. Empty ones are ignored.
    pub(crate) fn new<'a>(phrases: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut matcher = Self { nodes: vec![Node::default()], first: vec![ROOT; 256], pairs: Vec::new() };
        for phrase in phrases {
            matcher.insert(phrase);
        }
        matcher.link();
        for byte in 0..=u8::MAX {
            if let Some(child) = matcher.child(ROOT, byte) {
                matcher.first[usize::from(byte)] = child;
            }
        }
        if !matcher.is_empty() {
            matcher.pair();
        }
        matcher
    }

    fn pair(&mut self) {
        self.pairs = vec![0; (1 << 16) / BITS];
        for first in 0..=u8::MAX {
            let Some(node) = self.child(ROOT, first) else { continue };
            let is_phrase = self.node(node).longest > 0;
            for second in 0..=u8::MAX {
                if is_phrase || self.child(node, second).is_some() {
                    let at = usize::from(u16::from_be_bytes([first, second]));
                    self.pairs[at / BITS] |= 1 << (at % BITS);
                }
            }
        }
    }

    /// Whether these two bytes can begin a phrase, or the first is one.
    #[inline]
    pub(crate) fn begins(&self, first: u8, second: u8) -> bool {
        let at = usize::from(u16::from_be_bytes([first, second]));
        self.pairs.get(at / BITS).is_some_and(|word| word >> (at % BITS) & 1 == 1)
    }

    /// Whether there is nothing to find.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.len() <= 1
    }

    /// The state after one more byte.
    #[inline]
    pub(crate) fn step(&self, state: State, byte: u8) -> State {
        let mut node = state.0;
        loop {
            if node == ROOT {
                return State(self.first.get(usize::from(byte)).copied().unwrap_or(ROOT));
            }
            if let Some(child) = self.child(node, byte) {
                return State(child);
            }
            node = self.node(node).fail;
        }
    }

    /// The first byte of `bytes` that can begin a phrase; the last one, of whose successor nothing
    /// is known, more easily than others.
    #[inline]
    pub(crate) fn find_start(&self, bytes: &[u8]) -> Option<usize> {
        let is_first = |byte: u8| self.first.get(usize::from(byte)).is_some_and(|node| *node != ROOT);
        let mut pairs = bytes.windows(2);
        let found =
            pairs.position(|pair| matches!(pair, [first, second] if is_first(*first) && self.begins(*first, *second)));
        found.or_else(|| bytes.last().filter(|last| is_first(**last)).map(|_| bytes.len() - 1))
    }

    /// How many bytes at the end of the text begin a phrase or are one.
    #[inline]
    pub(crate) fn depth(&self, state: State) -> usize {
        self.node(state.0).depth as usize
    }

    /// How many bytes at the end of the text can still grow into a phrase. Where this is 0 the
    /// automaton may as well start anew.
    #[inline]
    pub(crate) fn pending(&self, state: State) -> usize {
        self.node(state.0).pending as usize
    }

    /// The length of the longest phrase that ends here; 0 for none.
    #[inline]
    pub(crate) fn longest(&self, state: State) -> usize {
        self.node(state.0).longest as usize
    }

    fn node(&self, index: u32) -> Node {
        self.nodes.get(index as usize).copied().unwrap_or_default()
    }

    fn child(&self, node: u32, byte: u8) -> Option<u32> {
        let mut child = self.node(node).child;
        while child != ROOT {
            let Node { byte: own, sibling, .. } = self.node(child);
            if own == byte {
                return Some(child);
            }
            child = sibling;
        }
        None
    }

    fn insert(&mut self, phrase: &[u8]) {
        let mut node = ROOT;
        for byte in phrase {
            node = match self.child(node, *byte) {
                Some(child) => child,
                None => self.add(node, *byte),
            };
        }
        if node != ROOT {
            let end = &mut self.nodes[node as usize];
            end.longest = end.depth;
        }
    }

    /// A new child. Past 2^32 bytes of phrases there is no room; the rest of such a phrase then
    /// stands for the whole.
    fn add(&mut self, parent: u32, byte: u8) -> u32 {
        let Ok(index) = u32::try_from(self.nodes.len()) else { return parent };
        let Node { child: sibling, depth, .. } = self.nodes[parent as usize];
        self.nodes.push(Node { byte, sibling, depth: depth + 1, ..Node::default() });
        self.nodes[parent as usize].child = index;
        index
    }

    /// Sets `fail`, and inherits `longest` and `pending`, level by level.
    fn link(&mut self) {
        let mut queue = std::collections::VecDeque::from([ROOT]);
        while let Some(parent) = queue.pop_front() {
            let mut child = self.node(parent).child;
            while child != ROOT {
                let fail = if parent == ROOT { ROOT } else { self.fall(self.node(parent).fail, self.node(child).byte) };
                let Node { longest, pending, .. } = self.node(fail);
                let node = &mut self.nodes[child as usize];
                node.fail = fail;
                node.longest = node.longest.max(longest);
                node.pending = if node.child == ROOT { pending } else { node.depth };
                let sibling = node.sibling;
                queue.push_back(child);
                child = sibling;
            }
        }
    }

    fn fall(&self, mut node: u32, byte: u8) -> u32 {
        loop {
            if let Some(child) = self.child(node, byte) {
                return child;
            }
            if node == ROOT {
                return ROOT;
            }
            node = self.node(node).fail;
        }
    }
}

/// Shows sizes only: the nodes spell out secrets.
impl std::fmt::Debug for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Matcher").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_matches_and_beginnings_after_every_byte() {
        let matcher = Matcher::new(["he", "she", "hers", ""].map(str::as_bytes));
        let mut state = State::default();
        let mut seen = Vec::new();
        for byte in b"ushersx" {
            state = matcher.step(state, *byte);
            seen.push((matcher.depth(state), matcher.pending(state), matcher.longest(state)));
        }
        assert_eq!(seen, [(0, 0, 0), (1, 1, 0), (2, 2, 0), (3, 2, 3), (3, 3, 0), (4, 1, 4), (0, 0, 0)]);
        assert!(Matcher::new([]).is_empty());
        assert_eq!(matcher.find_start(b"has sheds"), Some(4));
        assert_eq!(matcher.find_start(b"hash"), Some(2));
        assert_eq!(matcher.find_start(b"has"), Some(2));
        assert_eq!(matcher.find_start(b"hat"), None);
        let short = Matcher::new([&b"x"[..], b"xyz"]);
        assert_eq!((short.find_start(b"axb"), short.find_start(b"ax")), (Some(1), Some(1)));
        assert!(!format!("{matcher:?}").contains("he\""));
    }
}
