//! Why a name is refused, in words that its user can act on.

/// The longest run of combining marks; more of them climb over the lines of others.
pub(super) const MAX_MARKS: usize = 4;

/// Why a name is refused. Each message says which field, what was found, and what is allowed;
/// offending characters are given by code point, as many of them could not be seen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsernameError {
    /// Nothing there that could be seen.
    #[error("username cannot be empty")]
    Empty,
    /// More characters than the limit.
    #[error("username has {got} characters; at most {max} are allowed")]
    TooLong {
        /// How many Unicode scalar values it has.
        got: usize,
        /// How many it may have.
        max: usize,
    },
    /// A control character. The `chat` protocol relies on this refusal to tell its dialects apart.
    #[error(
        "username contains the control character {}; only visible characters and U+0020 \
         between them are allowed",
        code_point(*got)
    )]
    Control {
        /// The first such character.
        got: char,
    },
    /// A character that changes the direction of the text around it.
    #[error(
        "username contains {}, which changes the direction of text; only visible characters \
         and U+0020 between them are allowed",
        code_point(*got)
    )]
    Bidi {
        /// The first such character.
        got: char,
    },
    /// A zero-width or otherwise invisible character, or a joiner that joins nothing.
    #[error(
        "username contains the invisible character {}; joiners and variation selectors are \
         allowed inside emoji, joiners also between letters of scripts that need them",
        code_point(*got)
    )]
    Invisible {
        /// The first such character.
        got: char,
    },
    /// A character that takes room but shows nothing, such as the Hangul filler.
    #[error(
        "username contains {}, which looks blank; only visible characters and U+0020 between \
         them are allowed",
        code_point(*got)
    )]
    Blank {
        /// The first such character.
        got: char,
    },
    /// A space that is not the ordinary one.
    #[error("username contains the space {}; the only space allowed is U+0020", code_point(*got))]
    Space {
        /// The first such character.
        got: char,
    },
    /// A line or paragraph separator.
    #[error("username contains the line separator {}; it has to be one line", code_point(*got))]
    LineSeparator {
        /// The first such character.
        got: char,
    },
    /// A code point that means nothing to others: unassigned, private use, or no character at all.
    #[error(
        "username contains {}, which is not an assigned character; only assigned, public \
         characters of Unicode are allowed",
        code_point(*got)
    )]
    Unassigned {
        /// The first such code point.
        got: char,
    },
    /// A combining mark with nothing to combine with: it would land on somebody else's text.
    #[error(
        "username has the combining mark {} at its start or after a space; marks are allowed \
         after a visible character",
        code_point(*got)
    )]
    StrayMark {
        /// The first such mark.
        got: char,
    },
    /// A flood of combining marks.
    #[error("username has {got} combining marks in a row; at most {MAX_MARKS} are allowed")]
    MarkFlood {
        /// The length of the first run that is too long.
        got: usize,
    },
    /// Scripts that are mixed in look-alikes rather than in names.
    #[error(
        "username mixes {first} with {second} ({}); allowed are one script, or Latin beside \
         a script that does not imitate it",
        code_point(*got)
    )]
    MixedScripts {
        /// The script that it begins with.
        first: &'static str,
        /// The script that does not go with it.
        second: &'static str,
        /// The first character of that second script.
        got: char,
    },
    /// The server's own name, or one that looks like it.
    #[error(
        "username {got:?} looks like \"System\", which belongs to the server; any other name \
         is allowed"
    )]
    System {
        /// The spelling that was asked for.
        got: Box<str>,
    },
}

fn code_point(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}
