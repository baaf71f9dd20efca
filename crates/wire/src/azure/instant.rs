use std::fmt;

use serde::{Serialize, Serializer};

/// A moment, written as .NET does: `2024-05-02T07:21:07.9922617Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    /// Of 1970, seconds.
    seconds: i64,
    nanos: u32,
}

const DAY_S: i64 = 86_400;
/// 0001-01-01 and the end of 9999: what can be written.
const RANGE_S: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

impl Instant {
    /// So long after the beginning of 1970. What a program sets a file's time to may be anything: it is brought into
    /// the years 1 to 9999.
    pub fn from_unix(seconds: i64, nanos: u32) -> Self {
        Self { seconds: seconds.clamp(*RANGE_S.start(), *RANGE_S.end()), nanos: nanos.min(999_999_999) }
    }

    /// So many milliseconds after the beginning of 1970.
    pub fn from_unix_ms(ms: u64) -> Self {
        let nanos = u32::try_from(ms % 1000).unwrap_or_default() * 1_000_000;
        Self::from_unix(i64::try_from(ms / 1000).unwrap_or(i64::MAX), nanos)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, second) = (self.seconds.div_euclid(DAY_S), self.seconds.rem_euclid(DAY_S));
        // Howard Hinnant's `civil_from_days`: years that begin in March, in eras of 400.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second, ticks) = (second / 3600, second / 60 % 60, second % 60, self.nanos / 100);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ticks:07}Z")
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_with_seven_digits() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.0000000Z"),
            (1_714_634_467, 992_261_799, "2024-05-02T07:21:07.9922617Z"),
            (951_782_399, 0, "2000-02-28T23:59:59.0000000Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.0000000Z"),
            (-1, 0, "1969-12-31T23:59:59.0000000Z"),
            (i64::MIN, 0, "0001-01-01T00:00:00.0000000Z"),
            (i64::MAX, u32::MAX, "9999-12-31T23:59:59.9999999Z"),
        ] {
            assert_eq!(Instant::from_unix(seconds, nanos).to_string(), text);
        }
        assert_eq!(Instant::from_unix_ms(1_714_634_467_992).to_string(), "2024-05-02T07:21:07.9920000Z");
    }
}
