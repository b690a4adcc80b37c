//! Where a page of the list ended: a place in each of the lists that it is merged from.

use std::fmt;
use std::str::FromStr;

use crate::ledger::Cursor;

/// How far one list was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Reach<T> {
    /// Not at all.
    #[default]
    Begin,
    /// Up to here.
    To(T),
    /// Whole.
    End,
}

/// How far the list was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    /// Events of a transaction, or all.
    pub transactions: Reach<Cursor>,
    /// Events of a user.
    pub users: Reach<Cursor>,
    /// Callbacks that were neither recorded nor refused, by number.
    pub passed: Reach<u64>,
    /// Rejected ones.
    pub refused: Reach<Cursor>,
}

impl Position {
    pub fn is_end(&self) -> bool {
        self.transactions == Reach::End
            && self.users == Reach::End
            && self.passed == Reach::End
            && self.refused == Reach::End
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
        let Self { transactions, users, passed, refused } = self;
        write!(f, "{transactions}.{users}.{passed}.{refused}")
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = text.split('.').collect();
        let [transactions, users, passed, refused] = parts.as_slice() else { return Err(()) };
        Ok(Self {
            transactions: transactions.parse().or(Err(()))?,
            users: users.parse().or(Err(()))?,
            passed: passed.parse().or(Err(()))?,
            refused: refused.parse().or(Err(()))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::EventId;

    #[test]
    fn a_position_goes_out_and_comes_back() {
        let at = Cursor::after(EventId::from_bytes([7; 16]));
        let position = Position {
            transactions: Reach::To(at),
            users: Reach::End,
            passed: Reach::Begin,
            refused: Reach::To(Cursor::after(EventId::from_bytes([8; 16]))),
        };
        assert_eq!(position.to_string().parse(), Ok(position));
        for bad in ["", "a.b.c", "....", "zz...", "..x.", "...xyz"] {
            assert_eq!(bad.parse::<Position>(), Err(()), "{bad}");
        }
    }
}
