//! How files become one, and how hard that is tried (GitLab Runner 19.4,
//! `commands/helpers/archive`).

use gantry_wire::plan::ArtifactFormat;

use super::workers::Method;

/// Format and effort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) format: Format,
    pub(crate) level: Level,
}

/// How files become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Zip with deflated files.
    Zip,
    /// Zip whose files are compressed with zstd (method 93).
    ZipZstd,
    /// A tar archive, compressed with zstd.
    TarZstd,
    /// One gzip member per file.
    Gzip,
    /// The bytes of the one file.
    Raw,
}

/// How hard it is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Level {
    Fastest,
    Fast,
    #[default]
    Default,
    Slow,
    Slowest,
}

impl Level {
    /// The words of `ARTIFACT_COMPRESSION_LEVEL` and `CACHE_COMPRESSION_LEVEL`; nothing for others.
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "fastest" => Self::Fastest,
            "fast" => Self::Fast,
            "default" => Self::Default,
            "slow" => Self::Slow,
            "slowest" => Self::Slowest,
            _ => return None,
        })
    }

    /// What the variable `name` of a job says; else the default, and why.
    pub(crate) fn of_variable(name: &str, word: &str) -> (Self, Option<String>) {
        let why = || format!("{name} is {word:?}, not fastest, fast, default, slow or slowest: default is used");
        match Self::parse(word) {
            Some(level) => (level, None),
            None => (Self::Default, (!word.is_empty()).then(why)),
        }
    }

    pub(super) fn deflate(self) -> Method {
        match self {
            Self::Fastest => Method::Stored,
            Self::Fast => Method::Deflated(1),
            Self::Default => Method::Deflated(5),
            Self::Slow => Method::Deflated(7),
            Self::Slowest => Method::Deflated(9),
        }
    }

    /// The reference's encoder has four classes, which stand for about these levels of the C
    /// library.
    pub(super) fn zstd(self) -> i32 {
        match self {
            Self::Fastest | Self::Fast => 1,
            Self::Default => 3,
            Self::Slow => 7,
            Self::Slowest => 11,
        }
    }
}

impl From<Format> for Style {
    fn from(format: Format) -> Self {
        Self { format, level: Level::Default }
    }
}

impl From<ArtifactFormat> for Format {
    fn from(format: ArtifactFormat) -> Self {
        match format {
            ArtifactFormat::Zip => Self::Zip,
            ArtifactFormat::Gzip => Self::Gzip,
            ArtifactFormat::Raw => Self::Raw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_is_none_is_said() {
        let of = |word| Level::of_variable("ARTIFACT_COMPRESSION_LEVEL", word);
        assert_eq!((of("slow"), of("")), ((Level::Slow, None), (Level::Default, None)));
        let (level, why) = of("9");
        assert_eq!(level, Level::Default);
        assert_eq!(
            why.unwrap(),
            "ARTIFACT_COMPRESSION_LEVEL is \"9\", not fastest, fast, default, slow or slowest: default is used"
        );
    }
}
