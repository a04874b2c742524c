//! How the Java tools lay out text on 80 columns: joptsimple's table of options, argparse4j's
//! justified lines, and `BreakIterator`'s opinion on where a line may end.

/// joptsimple's `BuiltinHelpFormatter`: the whole width, the gap, and what either column may have.
const WIDTH: usize = 80;
const GAP: usize = 2;
const COLUMN: usize = (WIDTH - GAP) / 2;
const INDENT: &str = "  ";

/// argparse4j's width, and the column where its descriptions begin.
const ARGPARSE_WIDTH: usize = 75;
const ARGPARSE_COLUMN: usize = 25;

fn width(text: &str) -> usize {
    text.chars().count()
}

fn widest<'a>(texts: impl Iterator<Item = &'a String>) -> usize {
    texts.map(|text| width(text)).max().unwrap_or(0)
}

/// Two columns below their headings, no wider than they must be, words wrapped.
pub fn table(rows: Vec<(String, String)>) -> String {
    let mut all = vec![
        ("Option".to_owned(), "Description".to_owned()),
        ("------".to_owned(), "-----------".to_owned()),
    ];
    all.extend(rows);
    let left_max = widest(all.iter().map(|row| &row.0)).min(COLUMN);
    let right_max = widest(all.iter().map(|row| &row.1)).min(WIDTH - left_max - GAP);
    let mut fitted = Vec::new();
    for (left, right) in &all {
        let left = wrap(left, left_max);
        let right = wrap(right, right_max);
        for line in 0..left.len().max(right.len()) {
            let piece = |pieces: &[String]| pieces.get(line).cloned().unwrap_or_default();
            fitted.push((piece(&left), piece(&right)));
        }
    }
    let left_width = widest(fitted.iter().map(|row| &row.0));
    let right_width = widest(fitted.iter().map(|row| &row.1));
    let lines = fitted
        .iter()
        .map(|(left, right)| format!("{left:<left_width$}  {right:<right_width$}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Breaks a text into lines of at most `most` characters; what continues a line is indented.
fn wrap(text: &str, most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.trim().split('\n') {
        let mut line = String::new();
        for word in words(paragraph) {
            if width(&line) + width(word) > most {
                lines.push(line.trim_end().to_owned());
                line = INDENT.to_owned();
            }
            line.push_str(word);
        }
        if !line.is_empty() {
            lines.push(line);
        }
    }
    lines
}

/// Pieces between which a line may end; blanks belong to the piece before them.
fn words(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut before = [' ', ' '];
    for (at, letter) in text.char_indices() {
        if at > start && may_break(before, letter) {
            pieces.push(&text[start..at]);
            start = at;
        }
        before = [before[1], letter];
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    pieces
}

/// May a line end behind these two letters, before the third?
fn may_break([first, second]: [char; 2], third: char) -> bool {
    const CLOSING: [char; 9] = ['.', ',', ':', ';', '!', '?', ')', ']', '}'];
    const OPENING: [char; 3] = ['(', '[', '{'];
    if third.is_whitespace() {
        return false;
    }
    if second.is_whitespace() {
        return true;
    }
    let in_number = first.is_ascii_digit() && matches!(second, '.' | ',') && third.is_ascii_digit();
    let behind_mark = CLOSING.contains(&second)
        && !CLOSING.contains(&third)
        && !matches!(third, '\'' | '"' | '*' | '/' | '|' | '=')
        && !in_number;
    let behind_dash = second == '-' && third.is_alphabetic();
    let bracket =
        OPENING.contains(&third) && !OPENING.contains(&second) && second.is_alphanumeric();
    behind_mark || behind_dash || bracket
}

/// argparse4j's `TextHelper.wrap`: lines of blocks spread over the whole width.
fn justified(text: &str, offset: usize, indent: &str) -> String {
    let mut result = String::new();
    let mut line = String::new();
    let mut column = offset;
    for word in words(text) {
        if column + width(word) > ARGPARSE_WIDTH {
            result.push_str(&spread(&line, ARGPARSE_WIDTH, column));
            result.push('\n');
            result.push_str(indent);
            line.clear();
            column = indent.len();
        }
        line.push_str(word);
        column += width(word);
    }
    result + &line
}

/// `adjustSpace`: widens the blanks of a line, those in its middle first.
fn spread(line: &str, most: usize, column: usize) -> String {
    let trimmed = line.trim_matches(' ');
    let column = column - (width(line) - width(trimmed));
    let mut parts: Vec<&str> = trimmed.split(' ').collect();
    // Several blanks in a row are one place to widen.
    let mut gaps: Vec<usize> = Vec::new();
    let mut kept = vec![parts.remove(0)];
    for part in parts {
        match gaps.last_mut() {
            Some(gap) if kept.last() == Some(&"") => {
                *gap += 1;
                kept.pop();
            }
            _ => gaps.push(1),
        }
        kept.push(part);
    }
    if gaps.is_empty() {
        return trimmed.to_owned();
    }
    let needed = most.saturating_sub(column);
    let (each, more) = (needed / gaps.len(), needed % gaps.len());
    let first = (gaps.len() - more).div_ceil(2);
    let mut result = String::new();
    for (place, part) in kept.iter().enumerate() {
        result.push_str(part);
        if let Some(gap) = gaps.get(place) {
            let extra = usize::from((first..first + more).contains(&place));
            result.push_str(&" ".repeat(gap + each + extra));
        }
    }
    result
}

/// argparse4j's complaint of a mistake, below its usage.
pub fn argparse_error(program: &str, message: &str) -> String {
    justified(&format!("{program}: error: {message}"), 0, "")
}

/// One option of argparse4j's help.
pub fn argparse_entry(title: &str, help: &str) -> String {
    let indent = " ".repeat(ARGPARSE_COLUMN);
    let gap = if width(title) <= 21 {
        " ".repeat(ARGPARSE_COLUMN - width(title) - 2)
    } else {
        format!("\n{indent}")
    };
    format!(
        "  {title}{gap}{}\n",
        justified(help, ARGPARSE_COLUMN, &indent)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of genuine 2.8.0 help texts.
    #[test]
    fn tables_are_laid_out_as_joptsimple_does_it() {
        let row = |left: &str, right: &str| (left.to_owned(), right.to_owned());
        let table = table(vec![
            row(
                "--bootstrap-server <String: server to connect to>",
                "REQUIRED unless --broker-list(deprecated) is specified. The server(s) to connect to. The broker list string in the form HOST1:PORT1,HOST2:PORT2.",
            ),
            row(
                "--formatter <String: class>",
                "The name of a class to use for formatting kafka messages for display. (default: kafka.tools.DefaultMessageFormatter)",
            ),
            row(
                "--property <String: prop>",
                "In this format: `topic1:0,1,2`, where, and\n\tparse.key=true|false\n\tkey.separator=<key.separator>",
            ),
        ]);
        let expected = [
            "Option                                 Description                            ",
            "------                                 -----------                            ",
            "--bootstrap-server <String: server to  REQUIRED unless --broker-list          ",
            "  connect to>                            (deprecated) is specified. The server",
            "                                         (s) to connect to. The broker list   ",
            "                                         string in the form HOST1:PORT1,HOST2:",
            "                                         PORT2.                               ",
            "--formatter <String: class>            The name of a class to use for         ",
            "                                         formatting kafka messages for        ",
            "                                         display. (default: kafka.tools.      ",
            "                                         DefaultMessageFormatter)             ",
            "--property <String: prop>              In this format: `topic1:0,1,2`, where, ",
            "                                         and                                  ",
            "                                       \tparse.key=true|false                  ",
            "                                       \tkey.separator=<key.separator>         ",
        ];
        assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    }

    /// Lines of the genuine 2.8.0 producer's performance test.
    #[test]
    fn lines_are_justified_as_argparse4j_does_it() {
        assert_eq!(
            argparse_error(
                "producer-performance",
                "one of the arguments --record-size --payload-file is required"
            ),
            "producer-performance: error: one of  the arguments --record-size --payload-\nfile is required"
        );
        let help = "message size in bytes. Note that you must provide exactly one of --record-size or --payload-file.";
        assert_eq!(
            argparse_entry("--record-size RECORD-SIZE", help),
            "  --record-size RECORD-SIZE\n                         message size in bytes. Note  that you must provide\n                         exactly one of --record-size or --payload-file.\n"
        );
        assert_eq!(
            argparse_entry("--topic TOPIC", "produce messages to this topic"),
            "  --topic TOPIC          produce messages to this topic\n"
        );
    }
}
