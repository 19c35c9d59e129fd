//! What keyhash refuses, said to the user: SQLSTATE, message and hint, never the key.

use keyhash::{Error, KeyError};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, function_name};

/// Raises an ERROR.
pub fn raise(error: Error) -> ! {
    report(error).report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}

pub fn report(error: Error) -> ErrorReport {
    let code = match error {
        Error::CostAboveLimit { .. } => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        Error::PepperMissing(_) => PgSqlErrorCode::ERRCODE_CONFIG_FILE_ERROR,
        _ => PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
    };
    ErrorReport::new(code, error.to_string(), function_name!()).set_hint(hint(error))
}

/// The way out.
fn hint(error: Error) -> &'static str {
    match error {
        Error::Key(fault) => key_hint(fault),
        Error::UnknownAlgorithm => {
            "The algorithms are \"sha256\", \"bcrypt\" and \"hmac-sha256\". The key comes before \
             the algorithm."
        }
        Error::CostOutOfRange { .. } | Error::CostAboveLimit { .. } => {
            "The limit is the setting \"pg_api_key.max_bcrypt_cost\"."
        }
        Error::PepperMissing(_) => {
            "Peppered hashes need a pepper file, which this version does not read. Use \
             \"sha256\" or \"bcrypt\"."
        }
        Error::TagBitsOutOfRange { .. } => "16 bits suit most tables.",
        Error::InvalidPrefix => {
            "A prefix has 1 to 32 letters, digits, underscores or hyphens, such as \"sk_live\"."
        }
    }
}

fn key_hint(fault: KeyError) -> &'static str {
    match fault {
        KeyError::Empty | KeyError::TooLong => "A key has 1 to 1024 bytes.",
        KeyError::TrailingNewline => {
            "\"echo\" adds a newline to what it prints; \"printf %s\" and \"echo -n\" do not."
        }
        KeyError::OuterBlank => "Take away the blanks around the key.",
        KeyError::InnerBlank | KeyError::Control | KeyError::NonAscii => {
            "A key consists of printable ASCII characters without blanks (0x21 to 0x7E), as an \
             HTTP header can carry."
        }
        KeyError::AlreadyHash => {
            "An existing hash belongs into the hash column, beside a key column that is null."
        }
        KeyError::TooLongForBcrypt => {
            "bcrypt ignores all beyond 72 bytes; \"sha256\" takes keys of up to 1024."
        }
    }
}

/// Raises an error that has a way out.
pub fn refuse(code: PgSqlErrorCode, message: &str, hint: &'static str) -> ! {
    ErrorReport::new(code, message.to_owned(), function_name!())
        .set_hint(hint)
        .report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}
