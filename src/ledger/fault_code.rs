//! Codes under which errors of a database server are counted.

/// Why a statement on a server failed: a closed set, derived from the server's SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCode {
    /// Class 08, and connections that ended or could not be established.
    Connection,
    /// 22012: another session wrote a key concurrently, or the sealing key has changed.
    Torn,
    /// 23514: the partition of a day was missing.
    NoPartition,
    /// 25006: the server is read-only, or a standby.
    ReadOnly,
    /// 40001 and 40P01: rolled back because of concurrent transactions on the same rows.
    Undone,
    /// 42501: the role lacks a privilege.
    NoPrivilege,
    /// 53100: the disk is full.
    DiskFull,
    /// Class 53 otherwise: memory, connections, or a configured limit.
    Resources,
    /// 55P03: a lock was unavailable within the time limit.
    Locked,
    /// Class 57: the server stops, starts, or cancelled the statement.
    Intervention,
    /// Class 58: the server could not read or write its files.
    System,
    /// The commit would not have had the required durability.
    NotDurable,
    /// Everything else.
    Other,
}

impl FaultCode {
    /// All codes.
    pub const ALL: [Self; 13] = [
        Self::Connection,
        Self::Torn,
        Self::NoPartition,
        Self::ReadOnly,
        Self::Undone,
        Self::NoPrivilege,
        Self::DiskFull,
        Self::Resources,
        Self::Locked,
        Self::Intervention,
        Self::System,
        Self::NotDurable,
        Self::Other,
    ];

    /// The code of an SQLSTATE.
    pub(super) fn of(state: &str) -> Self {
        match state {
            "22012" => Self::Torn,
            "23514" => Self::NoPartition,
            "25006" => Self::ReadOnly,
            "40001" | "40P01" => Self::Undone,
            "42501" => Self::NoPrivilege,
            "53100" => Self::DiskFull,
            "55P03" => Self::Locked,
            _ => match state.get(..2) {
                Some("08") => Self::Connection,
                Some("53") => Self::Resources,
                Some("57") => Self::Intervention,
                Some("58") => Self::System,
                _ => Self::Other,
            },
        }
    }

    /// The label: an SQLSTATE, a class of them, or a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "08",
            Self::Torn => "22012",
            Self::NoPartition => "23514",
            Self::ReadOnly => "25006",
            Self::Undone => "40",
            Self::NoPrivilege => "42501",
            Self::DiskFull => "53100",
            Self::Resources => "53",
            Self::Locked => "55P03",
            Self::Intervention => "57",
            Self::System => "58",
            Self::NotDurable => "not_durable",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_the_code_of_its_own_label() {
        for code in FaultCode::ALL {
            let label = code.as_str();
            match code {
                FaultCode::NotDurable | FaultCode::Other => {}
                FaultCode::Undone => assert_eq!(FaultCode::of("40P01"), code),
                _ => assert_eq!(FaultCode::of(&format!("{label:0<5}")), code),
            }
            assert_eq!(FaultCode::ALL[code as usize], code);
        }
        assert_eq!(FaultCode::of("XX000"), FaultCode::Other);
        assert_eq!(FaultCode::of(""), FaultCode::Other);
    }
}
