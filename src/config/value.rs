//! The types of settings: how their text is read, checked and printed, in Kafka's words.
//!
//! Pure. The sentences are those of `org.apache.kafka.common.config.ConfigDef`, because clients and
//! people compare them.

use std::fmt;

/// The types of Kafka's `ConfigDef`; the numbers are those of DescribeConfigs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// Floating point.
    Double = 6,
    /// Texts separated by commas.
    List = 7,
    /// A Java class name.
    Class = 8,
    /// Text that is never shown.
    Password = 9,
}

impl Kind {
    /// Kafka's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Boolean => "BOOLEAN",
            Kind::String => "STRING",
            Kind::Int => "INT",
            Kind::Short => "SHORT",
            Kind::Long => "LONG",
            Kind::Double => "DOUBLE",
            Kind::List => "LIST",
            Kind::Class => "CLASS",
            Kind::Password => "PASSWORD",
        }
    }

    /// The text as Kafka would print it back, or why it is not of this type.
    pub fn canonical(self, text: &str) -> Result<String, String> {
        let text = text.trim();
        let number = |value: Option<String>| {
            value.ok_or_else(|| format!("Not a number of type {}", self.name()))
        };
        match self {
            Kind::Boolean => <bool as Setting>::read(text)
                .map(|value| value.to_string())
                .ok_or_else(|| "Expected value to be either true or false".to_owned()),
            Kind::Short => number(i16::read(text).map(|value| value.to_string())),
            Kind::Int => number(i32::read(text).map(|value| value.to_string())),
            Kind::Long => number(i64::read(text).map(|value| value.to_string())),
            Kind::Double => number(f64::read(text).and_then(|value| value.print())),
            Kind::List => Ok(split_list(text).join(",")),
            Kind::String | Kind::Class | Kind::Password => Ok(text.to_owned()),
        }
    }
}

/// The legal values of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Valid {
    /// All of the type.
    Any,
    /// Not below.
    AtLeast(i64),
    /// Neither below nor above.
    Between(i64, i64),
    /// One of these (for lists: each item).
    OneOf(&'static [&'static str]),
    /// `*` or `partition:broker` pairs.
    ThrottledReplicas,
    /// A Kafka version as `2.8-IV1`.
    ApiVersion,
    /// Anything but nothing.
    NotEmpty,
    /// `need`, `want` or `none`, in any case.
    ClientAuth,
    /// `JKS`, `PEM` or `PKCS12`.
    StoreType,
    /// What every file and znode that holds a cluster's id gives back as it was.
    ClusterId,
}

impl Valid {
    /// Checks a text that is already of the type. `Err` is Kafka's sentence after the colon, with the
    /// value that it blames.
    pub fn check(&self, name: &str, kind: Kind, text: &str) -> Result<(), (String, String)> {
        let whole = |message: String| Err((text.to_owned(), message));
        match self {
            Valid::Any => Ok(()),
            Valid::AtLeast(min) if below(text, *min) => {
                whole(format!("Value must be at least {min}"))
            }
            Valid::Between(min, _) if below(text, *min) => {
                whole(format!("Value must be at least {min}"))
            }
            Valid::Between(_, max) if above(text, *max) => {
                whole(format!("Value must be no more than {max}"))
            }
            Valid::AtLeast(_) | Valid::Between(..) => Ok(()),
            Valid::OneOf(legal) => {
                let items = match kind {
                    Kind::List => split_list(text),
                    _ => vec![text.to_owned()],
                };
                match items.iter().find(|item| !legal.contains(&item.as_str())) {
                    None => Ok(()),
                    Some(bad) => Err((
                        bad.clone(),
                        format!("String must be one of: {}", legal.join(", ")),
                    )),
                }
            }
            Valid::ThrottledReplicas if throttled_replicas(text) => Ok(()),
            Valid::ThrottledReplicas => Err((
                format!("[{}]", split_list(text).join(", ")),
                format!(
                    "{name} must be the literal '*' or a list of replicas in the following format: \
                     [partitionId]:[brokerId],[partitionId]:[brokerId],..."
                ),
            )),
            Valid::ApiVersion if api_version(text) => Ok(()),
            Valid::ApiVersion => whole(format!("Version `{text}` is not a valid version")),
            Valid::ClientAuth => one_of_any_case(&["need", "want", "none"], text),
            Valid::StoreType => one_of_any_case(&["JKS", "PEM", "PKCS12"], text),
            Valid::NotEmpty | Valid::ClusterId if text.is_empty() => {
                whole("String must be non-empty".to_owned())
            }
            Valid::ClusterId if !cluster_id(text) => whole(format!(
                "it has to be 1 to {CLUSTER_ID_BYTES_MAX} printable ASCII characters without spaces, \
                 quotes and backslashes, as the 22 of base64 that kafka-storage random-uuid prints"
            )),
            Valid::NotEmpty | Valid::ClusterId => Ok(()),
        }
    }
}

/// Kafka's sentence for a bad value.
pub fn invalid(name: &str, text: &str, message: &str) -> String {
    format!("Invalid value {text} for configuration {name}: {message}")
}

fn one_of_any_case(legal: &[&str], text: &str) -> Result<(), (String, String)> {
    let known = legal.iter().any(|legal| legal.eq_ignore_ascii_case(text));
    let message = format!("String must be one of: {}", legal.join(", "));
    if known || text.is_empty() {
        Ok(())
    } else {
        Err((text.to_owned(), message))
    }
}

fn below(text: &str, min: i64) -> bool {
    match text.parse::<i64>() {
        Ok(value) => value < min,
        Err(_) => text.parse::<f64>().is_ok_and(|value| value < min as f64),
    }
}

fn above(text: &str, max: i64) -> bool {
    match text.parse::<i64>() {
        Ok(value) => value > max,
        Err(_) => text.parse::<f64>().is_ok_and(|value| value > max as f64),
    }
}

fn throttled_replicas(text: &str) -> bool {
    text.is_empty()
        || text == "*"
        || split_list(text).iter().all(|item| {
            let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            item.split_once(':')
                .is_some_and(|(partition, broker)| digits(partition) && digits(broker))
        })
}

/// The longest id of a cluster. Kafka's own have 22 characters.
const CLUSTER_ID_BYTES_MAX: usize = 128;

fn cluster_id(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'`' | b'\\');
    text.len() <= CLUSTER_ID_BYTES_MAX && text.bytes().all(fits)
}

fn api_version(text: &str) -> bool {
    let (numbers, internal) = match text.split_once("-IV") {
        Some((numbers, internal)) => (numbers, internal.parse::<u8>().is_ok()),
        None => (text, true),
    };
    let mut parts = numbers.split('.').map(|part| part.parse::<u8>().ok());
    let (major, minor) = (parts.next().flatten(), parts.next().flatten());
    internal
        && parts.all(|part| part.is_some())
        && matches!(
            (major, minor),
            (Some(0), Some(8..=11)) | (Some(1), Some(0..=1)) | (Some(2), Some(0..=8))
        )
}

/// Splits at commas, trims, and keeps empty items out.
pub fn split_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A Rust type that a row may have.
pub trait Setting: Sized {
    /// The type in Kafka's terms.
    const KIND: Kind;
    /// Reads the text; `None` when it is not of this type.
    fn read(text: &str) -> Option<Self>;
    /// The value where neither a source nor a default says one.
    fn absent() -> Self;
    /// The text that reads back to this value; `None` for null.
    fn print(&self) -> Option<String>;
}

macro_rules! number_setting {
    ($($type:ty => $kind:ident),*) => {$(
        impl Setting for $type {
            const KIND: Kind = Kind::$kind;
            fn read(text: &str) -> Option<Self> {
                text.trim().parse().ok()
            }
            fn absent() -> Self {
                0
            }
            fn print(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

number_setting!(i16 => Short, i32 => Int, i64 => Long);

impl Setting for bool {
    const KIND: Kind = Kind::Boolean;
    fn read(text: &str) -> Option<bool> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
    fn absent() -> bool {
        false
    }
    fn print(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for f64 {
    const KIND: Kind = Kind::Double;
    fn read(text: &str) -> Option<f64> {
        text.trim()
            .parse()
            .ok()
            .filter(|value: &f64| value.is_finite())
    }
    fn absent() -> f64 {
        0.0
    }
    fn print(&self) -> Option<String> {
        Some(format!("{self:?}").replace('e', "E"))
    }
}

impl Setting for String {
    const KIND: Kind = Kind::String;
    fn read(text: &str) -> Option<String> {
        Some(text.trim().to_owned())
    }
    fn absent() -> String {
        String::new()
    }
    fn print(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Setting for Vec<String> {
    const KIND: Kind = Kind::List;
    fn read(text: &str) -> Option<Vec<String>> {
        Some(split_list(text))
    }
    fn absent() -> Vec<String> {
        Vec::new()
    }
    fn print(&self) -> Option<String> {
        Some(self.join(","))
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: Kind = T::KIND;
    fn read(text: &str) -> Option<Option<T>> {
        T::read(text).map(Some)
    }
    fn absent() -> Option<T> {
        None
    }
    fn print(&self) -> Option<String> {
        self.as_ref().and_then(Setting::print)
    }
}

/// A secret: it can be used, but neither `Debug` nor DescribeConfigs shows it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Password(Option<String>);

impl Password {
    /// This text, with the spaces around it.
    pub fn new(text: impl Into<String>) -> Password {
        Password(Some(text.into()))
    }

    /// The secret, for the one who needs it.
    pub fn expose(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Setting for Password {
    const KIND: Kind = Kind::Password;
    fn read(text: &str) -> Option<Password> {
        Some(Password(Some(text.trim().to_owned())))
    }
    fn absent() -> Password {
        Password(None)
    }
    fn print(&self) -> Option<String> {
        None
    }
}
