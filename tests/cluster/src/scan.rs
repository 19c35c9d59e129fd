//! Searches files for what must not be there.

use std::fs;
use std::path::Path;

use memchr::memmem;

/// A marker in a file.
#[derive(Debug)]
pub struct Finding {
    /// Relative to the folder that was searched.
    pub file: String,
    /// The marker and the printable bytes that follow it.
    pub text: String,
}

/// Every occurrence of the marker's bytes in any file under the folder.
///
/// A marker is not found where a page boundary of the WAL splits it, so write it more than once.
pub fn scan_folder(folder: &Path, marker: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut files = 0;
    visit(folder, &mut |file| {
        // A running server removes files as it pleases.
        let Ok(bytes) = fs::read(file) else { return };
        files += 1;
        for start in memmem::find_iter(&bytes, marker) {
            let text = bytes[start..].iter().take_while(|byte| byte.is_ascii_graphic());
            findings.push(Finding {
                file: file.strip_prefix(folder).unwrap_or(file).display().to_string(),
                text: text.take(100).map(|byte| char::from(*byte)).collect(),
            });
        }
    });
    assert!(files > 100, "{} has only {files} files", folder.display());
    findings
}

fn visit(folder: &Path, each: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            visit(&path, each);
        } else {
            each(&path);
        }
    }
}
