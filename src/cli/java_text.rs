//! Texts that depend on how Java does things: dates by pattern, and the order of hash maps.

use std::collections::BTreeMap;

use crate::common::ids::TopicPartition;

/// Formats `ms` since 1970 in UTC by a pattern of `SimpleDateFormat`.
/// Letters: `y M d H m s S`; text in single quotes stands for itself. Another letter is an error.
pub fn date(ms: i64, pattern: &str) -> Result<String, String> {
    let days = ms.div_euclid(86_400_000);
    let in_day = ms.rem_euclid(86_400_000);
    let (year, month, day) = civil(days);
    let mut text = String::new();
    let mut rest = pattern.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter == '\'' {
            if rest.next_if_eq(&'\'').is_some() {
                text.push('\'');
                continue;
            }
            for quoted in rest.by_ref() {
                if quoted == '\'' {
                    break;
                }
                text.push(quoted);
            }
            continue;
        }
        if !letter.is_ascii_alphabetic() {
            text.push(letter);
            continue;
        }
        let mut width = 1;
        while rest.next_if_eq(&letter).is_some() {
            width += 1;
        }
        let value = match letter {
            'y' | 'u' if width == 2 => year.rem_euclid(100),
            'y' | 'u' => year,
            'M' if width <= 2 => month,
            'd' => day,
            'H' => in_day / 3_600_000,
            'm' => in_day / 60_000 % 60,
            's' => in_day / 1_000 % 60,
            'S' => in_day % 1_000,
            _ => return Err(format!("Illegal pattern character '{letter}'")),
        };
        text.push_str(&format!("{value:0width$}"));
    }
    Ok(text)
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's algorithm).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The day counted from 1970-01-01 (the same algorithm turned round).
pub fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// `String.hashCode`.
pub fn string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    })
}

/// `TopicPartition.hashCode`.
pub fn partition_hash(partition: &TopicPartition) -> i32 {
    let result = 31i32.wrapping_add(partition.partition);
    result
        .wrapping_mul(31)
        .wrapping_add(string_hash(&partition.topic))
}

/// Puts items in the order in which a `java.util.HashMap` made with `capacity` gives them back.
/// The originals print several lists in that order.
pub fn hash_order<T>(mut items: Vec<T>, capacity: usize, key: impl Fn(&T) -> &str) -> Vec<T> {
    let mut table = capacity.max(1).next_power_of_two();
    while items.len() * 4 > table * 3 {
        table *= 2;
    }
    in_table(&mut items, table, |item| string_hash(key(item)));
    items
}

/// The same of Scala's `mutable.HashMap`, which grows one item earlier and sorts each bucket.
pub fn scala_order<T>(mut items: Vec<T>, hash: impl Fn(&T) -> i32) -> Vec<T> {
    let mut table = 16;
    while items.len() * 4 >= table * 3 {
        table *= 2;
    }
    items.sort_by_key(|item| folded(hash(item)).cast_signed());
    in_table(&mut items, table, hash);
    items
}

fn folded(hash: i32) -> u32 {
    let hash = hash.cast_unsigned();
    hash ^ (hash >> 16)
}

/// Items of one bucket stay as they came.
fn in_table<T>(items: &mut [T], table: usize, hash: impl Fn(&T) -> i32) {
    items.sort_by_key(|item| folded(hash(item)) as usize & (table - 1));
}

/// The same of Scala's `immutable.Map`: up to four items stay as they came, more go into a tree of
/// nodes with 32 places, whose own items come before those of the nodes below.
pub fn immutable_order<T>(items: Vec<T>, hash: impl Fn(&T) -> i32) -> Vec<T> {
    if items.len() <= 4 {
        return items;
    }
    let hashed = items.into_iter().map(|item| (improved(hash(&item)), item));
    let mut ordered = Vec::new();
    walk(hashed.collect(), 0, &mut ordered);
    ordered
}

/// `scala.collection.Hashing.improve`.
fn improved(hash: i32) -> u32 {
    let hash = hash as u32;
    let mut hash = hash.wrapping_add(!(hash << 9));
    hash ^= hash >> 14;
    hash = hash.wrapping_add(hash << 4);
    hash ^ (hash >> 10)
}

fn walk<T>(items: Vec<(u32, T)>, shift: u32, ordered: &mut Vec<T>) {
    if shift >= u32::BITS {
        ordered.extend(items.into_iter().map(|(_, item)| item));
        return;
    }
    let mut places: BTreeMap<u32, Vec<(u32, T)>> = BTreeMap::new();
    for (hash, item) in items {
        let place = (hash >> shift) & 31;
        places.entry(place).or_default().push((hash, item));
    }
    let (single, below): (Vec<_>, Vec<_>) =
        places.into_values().partition(|items| items.len() == 1);
    ordered.extend(single.into_iter().flatten().map(|(_, item)| item));
    for items in below {
        walk(items, shift + 5, ordered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_pattern() {
        let ms = 1_620_000_000_123;
        assert_eq!(
            date(ms, "yyyy-MM-dd HH:mm:ss:SSS").as_deref(),
            Ok("2021-05-03 00:00:00:123")
        );
        assert_eq!(date(0, "dd/MM/yy 'at' H").as_deref(), Ok("01/01/70 at 0"));
        assert_eq!(
            date(951_782_400_000, "yyyy-MM-dd").as_deref(),
            Ok("2000-02-29")
        );
        assert!(date(0, "EEE").is_err());
        for day in (-1_000_000..1_000_000).step_by(997) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }

    /// What a genuine 2.8.0 tool printed for a compacted internal topic.
    #[test]
    fn settings_come_in_the_order_of_a_hash_map() {
        assert_eq!(string_hash("hello"), 99_162_322);
        let names = vec!["cleanup.policy", "segment.bytes", "compression.type"];
        let ordered = hash_order(names, 64, |name| name);
        assert_eq!(
            ordered,
            ["compression.type", "cleanup.policy", "segment.bytes"]
        );
    }

    /// What a genuine 2.8.0 `kafka-consumer-groups` printed for a topic of 15 partitions.
    #[test]
    fn partitions_come_in_the_orders_of_scalas_maps() {
        let all = || (0..15).map(|index| TopicPartition::new("many-045c47", index));
        let indices = |list: Vec<TopicPartition>| {
            let list: Vec<String> = list.iter().map(|id| id.partition.to_string()).collect();
            list.join(" ")
        };
        assert_eq!(
            indices(scala_order(all().collect(), partition_hash)),
            "3 4 1 2 0 13 14 11 12 9 10 7 8 5 6"
        );
        assert_eq!(
            indices(immutable_order(all().collect(), partition_hash)),
            "2 7 12 10 13 5 3 1 14 6 9 8 0 11 4"
        );
        let few = vec![3, 1, 2];
        assert_eq!(immutable_order(few.clone(), |item| *item), few);
    }
}
