//! Arguments of scripts, packed: the few kinds of MessagePack that `cmsgpack` in every server reads.
//!
//! One argument for a whole batch is read by the server in one piece, where hundreds would be read bit by bit. What is
//! not there is written as false, because a nil within a Lua table is the end of it.

#[derive(Debug, Default)]
pub(super) struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    /// Packs one array of `length` parts, which `write` adds.
    pub fn array_of(length: usize, write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut packer = Self::default();
        packer.array(length);
        write(&mut packer);
        packer.bytes
    }

    /// The head of an array; its parts follow.
    pub fn array(&mut self, length: usize) -> &mut Self {
        match u16::try_from(length) {
            Ok(short @ 0..=15) => self.bytes.push(0x90 | short as u8),
            Ok(length) => {
                self.bytes.push(0xdc);
                self.bytes.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                self.bytes.push(0xdd);
                self.bytes.extend_from_slice(&(length as u32).to_be_bytes());
            }
        }
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        let length = text.len();
        match u16::try_from(length) {
            Ok(short @ 0..=31) => self.bytes.push(0xa0 | short as u8),
            Ok(length) => {
                self.bytes.push(0xda);
                self.bytes.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                self.bytes.push(0xdb);
                self.bytes.extend_from_slice(&(length as u32).to_be_bytes());
            }
        }
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// A number beyond 2^53 arrives rounded: Lua has no others.
    pub fn number(&mut self, number: i64) -> &mut Self {
        match number {
            0..=127 => self.bytes.push(number as u8),
            _ => {
                self.bytes.push(0xd3);
                self.bytes.extend_from_slice(&number.to_be_bytes());
            }
        }
        self
    }

    pub fn flag(&mut self, flag: bool) -> &mut Self {
        self.bytes.push(if flag { 0xc3 } else { 0xc2 });
        self
    }

    pub fn optional_text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.flag(false),
        }
    }

    pub fn optional_number(&mut self, number: Option<i64>) -> &mut Self {
        match number {
            Some(number) => self.number(number),
            None => self.flag(false),
        }
    }

    pub fn texts(&mut self, texts: &[&str]) -> &mut Self {
        self.array(texts.len());
        for text in texts {
            self.text(text);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_messagepack_says() {
        let packed = Packer::array_of(6, |p| {
            p.text("é").number(5).number(-1).flag(true).optional_number(None).texts(&["", "a"]);
        });
        let expected =
            [&[0x96, 0xa2, 0xc3, 0xa9, 5, 0xd3][..], &[0xff; 8], &[0xc3, 0xc2, 0x92, 0xa0, 0xa1, b'a']];
        assert_eq!(packed, expected.concat());
        let head = |length| Packer::array_of(length, |_| {});
        assert_eq!((head(16), head(70_000)), (vec![0xdc, 0, 16], vec![0xdd, 0, 1, 0x11, 0x70]));
        let mut long = Packer::default();
        long.text(&"x".repeat(300)).text(&"y".repeat(70_000));
        assert_eq!(
            (long.bytes[..3].to_vec(), long.bytes[303..308].to_vec()),
            (vec![0xda, 1, 44], vec![0xdb, 0, 1, 0x11, 0x70])
        );
    }
}
