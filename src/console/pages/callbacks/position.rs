//! The end of a page of the list: a position in each of the merged lists.

use std::fmt;
use std::str::FromStr;

use crate::ledger::Cursor;

/// The position in one list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Reach<T> {
    /// Before the first line.
    #[default]
    Begin,
    /// After a line.
    To(T),
    /// After the last line.
    End,
}

/// The position in the merged list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Events of a transaction, or all.
    pub transactions: Reach<Cursor>,
    /// Events of a user.
    pub users: Reach<Cursor>,
    /// Callbacks neither recorded nor rejected, by number.
    pub passed: Reach<u64>,
    /// Rejected ones.
    pub rejected: Reach<Cursor>,
}

impl Position {
    pub(super) fn is_end(&self) -> bool {
        self.transactions == Reach::End
            && self.users == Reach::End
            && self.passed == Reach::End
            && self.rejected == Reach::End
    }
}

impl<T: fmt::Display> fmt::Display for Reach<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin => Ok(()),
            Self::To(place) => write!(f, "{place}"),
            Self::End => f.write_str("-"),
        }
    }
}

impl<T: FromStr> FromStr for Reach<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        Ok(match text {
            "" => Self::Begin,
            "-" => Self::End,
            place => Self::To(place.parse()?),
        })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transactions, users, passed, rejected } = self;
        write!(f, "{transactions}.{users}.{passed}.{rejected}")
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = text.split('.').collect();
        let [transactions, users, passed, rejected] = parts.as_slice() else { return Err(()) };
        Ok(Self {
            transactions: transactions.parse().or(Err(()))?,
            users: users.parse().or(Err(()))?,
            passed: passed.parse().or(Err(()))?,
            rejected: rejected.parse().or(Err(()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::EventId;

    #[test]
    fn positions_round_trip() {
        let at = Cursor::after(EventId::from_bytes([7; 16]));
        let position = Position {
            transactions: Reach::To(at),
            users: Reach::End,
            passed: Reach::Begin,
            rejected: Reach::To(Cursor::after(EventId::from_bytes([8; 16]))),
        };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "a.b.c", "....", "zz...", "..x.", "...xyz"] {
            assert_eq!(bad.parse::<Position>(), Err(()), "{bad}");
        }
    }
}
