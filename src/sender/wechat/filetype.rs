//! What a file is by its first bytes, and which files the platform takes as which media.
//!
//! Names and announced types are not believed. Deliberately absent: decoding; only the platform
//! looks inside.
//!
//! Limits: the platform's page "upload temporary media" (and `uploadimg` for pictures).

/// What an upload is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    Image,
    Voice,
    Video,
    /// A video's cover.
    Thumb,
    /// A card's picture, which becomes a URL instead of a media id.
    Picture,
}

impl MediaKind {
    /// The platform's name of the type (`picture` is ours), also the row's.
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Voice => "voice",
            Self::Video => "video",
            Self::Thumb => "thumb",
            Self::Picture => "picture",
        }
    }

    fn takes(self, filetype: FileType) -> bool {
        use FileType::{Amr, Gif, Jpeg, Mp3, Mp4, Png};
        match self {
            Self::Image => matches!(filetype, Png | Jpeg | Gif),
            Self::Voice => matches!(filetype, Amr | Mp3),
            Self::Video => filetype == Mp4,
            Self::Thumb => filetype == Jpeg,
            Self::Picture => matches!(filetype, Png | Jpeg),
        }
    }

    /// For people.
    fn wants(self) -> &'static str {
        match self {
            Self::Image => "PNG, JPG or GIF of at most 10 MB",
            Self::Voice => "AMR or MP3 of at most 2 MB",
            Self::Video => "MP4 of at most 10 MB",
            Self::Thumb => "JPG of at most 64 KB",
            Self::Picture => "PNG or JPG of at most 1 MB",
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Self::Image | Self::Video => 10 << 20,
            Self::Voice => 2 << 20,
            Self::Thumb => 64 << 10,
            Self::Picture => 1 << 20,
        }
    }

    /// What the bytes are, if the platform takes them as this.
    ///
    /// # Errors
    /// What is wrong with them and what would be right, for people.
    pub fn check(self, bytes: &[u8]) -> Result<FileType, String> {
        let found = FileType::of(bytes);
        match found {
            Some(filetype) if self.takes(filetype) && bytes.len() <= self.bytes_max() => {
                Ok(filetype)
            }
            _ => Err(format!(
                "{} must be {}, not {} of {} bytes",
                self.name(),
                self.wants(),
                found.map_or("an unknown type", FileType::extension),
                bytes.len()
            )),
        }
    }
}

/// The types that any media may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileType {
    Png,
    Jpeg,
    Gif,
    Amr,
    Mp3,
    Mp4,
}

impl FileType {
    /// The type by its signature.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Self::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Self::Jpeg),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'#', b'!', b'A', b'M', b'R', b'\n' | b'-', ..] => Some(Self::Amr),
            [b'I', b'D', b'3', ..] => Some(Self::Mp3),
            // A bare frame: eleven sync bits, layer III, and a bit rate that exists.
            [0xff, second, third, ..]
                if second & 0xe6 == 0xe2 && !matches!(third >> 4, 0 | 0xf) =>
            {
                Some(Self::Mp3)
            }
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some(Self::Mp4),
            _ => None,
        }
    }

    /// Its MIME type.
    pub fn mime(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Gif => "image/gif",
            Self::Amr => "audio/amr",
            Self::Mp3 => "audio/mpeg",
            Self::Mp4 => "video/mp4",
        }
    }

    /// Its usual file name ending, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Gif => "gif",
            Self::Amr => "amr",
            Self::Mp3 => "mp3",
            Self::Mp4 => "mp4",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_known_by_their_bytes() {
        for (bytes, filetype) in [
            (&b"\x89PNG\r\n\x1a\n...."[..], Some(FileType::Png)),
            (b"\xff\xd8\xff\xe0", Some(FileType::Jpeg)),
            (b"GIF89a", Some(FileType::Gif)),
            (b"#!AMR\n\x3c", Some(FileType::Amr)),
            (b"#!AMR-WB\n", Some(FileType::Amr)),
            (b"ID3\x04", Some(FileType::Mp3)),
            (b"\xff\xfb\x90\x64", Some(FileType::Mp3)),
            (b"\xff\xf3\x40\xc4", Some(FileType::Mp3)),
            (b"\xff\xf1\x50\x80", None), // AAC in ADTS: layer bits are zero
            (b"\xff\xfb\xf0\x64", None),
            (b"\x00\x00\x00\x18ftypmp42", Some(FileType::Mp4)),
            (b"<svg xmlns=", None),
            (b"<html>", None),
            (b"\xff", None),
            (b"", None),
        ] {
            assert_eq!(FileType::of(bytes), filetype, "{bytes:?}");
        }
    }

    #[test]
    fn a_kind_refuses_what_the_platform_would_and_says_what_it_wants() {
        let jpeg = |length: usize| {
            let mut bytes = vec![0; length];
            bytes[..3].copy_from_slice(b"\xff\xd8\xff");
            bytes
        };
        assert_eq!(MediaKind::Thumb.check(&jpeg(65_536)), Ok(FileType::Jpeg));
        let said = MediaKind::Thumb.check(&jpeg(65_537)).unwrap_err();
        assert_eq!(
            said,
            "thumb must be JPG of at most 64 KB, not jpg of 65537 bytes"
        );
        assert!(MediaKind::Voice.check(&jpeg(9)).is_err());
        assert!(MediaKind::Picture.check(b"GIF89a").is_err());
        assert!(MediaKind::Image.check(b"GIF89a").is_ok());
    }
}
