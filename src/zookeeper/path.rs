//! Node paths: which are valid (`PathUtils.validatePath`), parents, sequence suffixes.

/// Is this a path that a node can have?
///
/// Absolute, no empty, `.` or `..` step, no trailing slash, no control characters, surrogates or
/// specials — ZooKeeper's `PathUtils.validatePath`.
pub fn valid(path: &str) -> bool {
    if path == "/" {
        return true;
    }
    let Some(steps) = path.strip_prefix('/') else {
        return false;
    };
    steps
        .split('/')
        .all(|step| !matches!(step, "" | "." | "..") && step.chars().all(valid_char))
}

fn valid_char(c: char) -> bool {
    // Java sees characters beyond the 16th bit as two surrogates.
    !matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// The path up to the last slash; "/" for the children of the root. `None` without a slash.
pub fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 => Some("/"),
        slash => Some(&path[..slash]),
    }
}

/// What follows the last slash.
pub fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Joins a parent and a child's name.
pub fn join(parent: &str, name: &str) -> String {
    if parent == "/" {
        format!("/{name}")
    } else {
        format!("{parent}/{name}")
    }
}

/// The path of a sequential node: ten digits, more sign than digit after 2147483647.
pub fn sequential(path: &str, sequence: i32) -> String {
    format!("{path}{sequence:010}")
}

/// Is `path` the same as `ancestor`, or below it?
pub fn within(path: &str, ancestor: &str) -> bool {
    ancestor == "/"
        || path
            .strip_prefix(ancestor)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_zookeepers() {
        for path in [
            "/",
            "/a",
            "/a/b",
            "/a.b",
            "/...",
            "/a b",
            "/é",
            "/.a/..b",
            "/\u{d7ff}",
            "/\u{ffef}",
        ] {
            assert!(valid(path), "{path:?}");
        }
        for path in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/a/..",
            "/a/./b",
            "/a\0",
            "/\u{1}",
            "/\u{85}",
            "/\u{e000}",
            "/a/\u{1f980}",
            "/\u{fff1}",
        ] {
            assert!(!valid(path), "{path:?}");
        }
    }

    #[test]
    fn parents_names_and_sequences() {
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(parent("/a/"), Some("/a"));
        assert_eq!(parent("a"), None);
        assert_eq!(name("/a/b"), "b");
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(sequential("/n-", 3), "/n-0000000003");
        assert_eq!(sequential("/n-", -2_147_483_648), "/n--2147483648");
        assert!(within("/a/b", "/a") && within("/a", "/a") && within("/a", "/"));
        assert!(!within("/ab", "/a"));
    }
}
