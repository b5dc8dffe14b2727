//! Medians over rounds, ratios and aims, as Markdown.
//!
//! A ratio is the median of the ratios of each round: what else the machine did in a round met both systems.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

/// Rows of the table: their names in the lines, and for people.
const ROWS: [(&str, &str); 9] = [
    ("put64", "puts, 64 clients"),
    ("put1", "puts, 1 client"),
    ("get64", "gets, 64 clients"),
    ("get64p16", "gets, 64 clients, 16 in flight each"),
    ("mix95", "95 gets, 5 puts, 64 clients"),
    ("mix50", "50 gets, 50 puts, 64 clients"),
    ("put1k", "puts of 1 KiB, 64 clients"),
    ("put64k", "puts of 64 KiB, 16 clients"),
    ("put1m", "puts of 1 MiB, 4 clients"),
];

/// What is compared.
const SYSTEMS: [(&str, &str); 6] = [
    ("trefoil", "Trefoil, its own client"),
    ("trefoil-resp", "Trefoil, Redis protocol"),
    ("redis-wait", "Redis, always, WAIT 2"),
    ("redis-always", "Redis, always, no WAIT"),
    ("redis-everysec", "Redis, everysec, no WAIT"),
    ("etcd", "etcd"),
];

/// Copies of each value.
const COPIES: f64 = 3.0;

/// Which figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    PerSecond,
    P50,
    P99,
    Processor,
    BytesPerSecond,
}

/// Trefoil's figure divided by another system's is to be at least, or at most, so much.
struct Aim {
    row: &'static str,
    figure: Figure,
    against: &'static str,
    least: Option<f64>,
    most: Option<f64>,
}

const fn least(row: &'static str, figure: Figure, against: &'static str, least: f64) -> Aim {
    Aim { row, figure, against, least: Some(least), most: None }
}

const fn most(row: &'static str, figure: Figure, against: &'static str, most: f64) -> Aim {
    Aim { row, figure, against, least: None, most: Some(most) }
}

const AIMS: [Aim; 9] = [
    least("put64", Figure::PerSecond, "redis-wait", 1.5),
    least("put64", Figure::PerSecond, "etcd", 10.0),
    most("put1", Figure::P50, "redis-wait", 0.8),
    most("put1", Figure::P50, "etcd", 0.5),
    least("get64", Figure::PerSecond, "etcd", 10.0),
    least("get64", Figure::PerSecond, "redis-wait", 0.8),
    least("get64p16", Figure::PerSecond, "redis-wait", 1.0),
    most("mix95", Figure::P99, "redis-wait", 1.0),
    most("mix50", Figure::P99, "redis-wait", 1.0),
];

/// The longest median time of a fail-over that is aimed at, in milliseconds.
const FAILOVER_MS_MOST: f64 = 1000.0;

/// All that was measured: by row and system, a value for each round (or kill).
#[derive(Default)]
struct Runs(BTreeMap<(String, String), Vec<Value>>);

/// The tables of these lines of JSON.
pub(crate) fn of(lines: &str) -> Result<String, String> {
    let mut runs = Runs::default();
    for (number, line) in lines.lines().enumerate() {
        let value: Value =
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        let name = |field| value[field].as_str().unwrap_or_default().to_owned();
        runs.0.entry((name("row"), name("system"))).or_default().push(value);
    }
    let mut out = String::new();
    runs.write_rows(&mut out).expect("a string takes everything");
    runs.write_failovers(&mut out).expect("a string takes everything");
    runs.write_aims(&mut out).expect("a string takes everything");
    Ok(out)
}

impl Runs {
    fn of(&self, row: &str, system: &str) -> &[Value] {
        self.0.get(&(row.to_owned(), system.to_owned())).map_or(&[], |runs| runs)
    }

    fn median(&self, row: &str, system: &str, figure: Figure) -> Option<f64> {
        median(self.of(row, system).iter().filter_map(|run| figure.of(run)).collect())
    }

    /// The median of one system's figure divided by another's, round by round.
    fn ratio(&self, row: &str, figure: Figure, system: &str, against: &str) -> Option<f64> {
        let pairs = self.of(row, system).iter().filter_map(|run| {
            let other = self.of(row, against).iter().find(|other| other["round"] == run["round"])?;
            Some(figure.of(run)? / figure.of(other)?)
        });
        median(pairs.collect())
    }

    fn write_rows(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "| load | system | a second | p50, ms | p99, ms | servers' processor time, us each | MB/s |"
        )?;
        writeln!(out, "|---|---|---|---|---|---|---|")?;
        for (row, title) in ROWS {
            for (system, name) in SYSTEMS {
                let figure = |figure| self.median(row, system, figure);
                let Some(per_second) = figure(Figure::PerSecond) else { continue };
                let shown = |value: Option<f64>, digits| {
                    value.map_or(String::new(), |value| format!("{value:.digits$}"))
                };
                let ms = |which| shown(figure(which).map(|us| us / 1000.0), 3);
                let bytes =
                    figure(Figure::BytesPerSecond).filter(|_| row.ends_with('k') || row.ends_with('m'));
                writeln!(
                    out,
                    "| {title} | {name} | {per_second:.0} | {} | {} | {} | {} |",
                    ms(Figure::P50),
                    ms(Figure::P99),
                    shown(figure(Figure::Processor), 0),
                    shown(bytes.map(|bytes| bytes / 1e6), 1),
                )?;
            }
        }
        let disk = self.of("disk", "").iter().filter_map(|run| run["bytes_per_second"].as_f64()).collect();
        if let Some(disk) = median(disk) {
            let share = disk / COPIES / 1e6;
            writeln!(
                out,
                "\nThe disk takes {:.1} MB/s in synced writes of 1 MiB, so {share:.1} MB/s of three copies.",
                disk / 1e6
            )?;
        }
        Ok(())
    }

    fn write_failovers(&self, out: &mut String) -> std::fmt::Result {
        let failovers = self.0.iter().filter(|((row, _), _)| row == "failover");
        for (place, ((_, system), kills)) in failovers.enumerate() {
            if place == 0 {
                writeln!(
                    out,
                    "\n| a server is killed, all keys take writes again | kills | median, ms | largest, ms \
                     |\n|---|---|---|---|"
                )?;
            }
            let times: Vec<f64> = kills.iter().filter_map(|kill| kill["ms"].as_f64()).collect();
            let largest = times.iter().copied().fold(0.0, f64::max);
            let count = times.len();
            let middle = median(times).unwrap_or(0.0);
            writeln!(out, "| {system} | {count} | {middle:.0} | {largest:.0} |")?;
        }
        Ok(())
    }

    fn write_aims(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\n| aim, Trefoil divided by the other | its own client | Redis protocol |\n|---|---|---|"
        )?;
        for aim in &AIMS {
            let title = ROWS.iter().find(|(row, _)| *row == aim.row).map_or(aim.row, |(_, title)| title);
            let other =
                SYSTEMS.iter().find(|(name, _)| *name == aim.against).map_or(aim.against, |(_, name)| name);
            let figure = aim.figure.name();
            let bound = match (aim.least, aim.most) {
                (Some(least), _) => format!("at least {least}"),
                (_, most) => format!("at most {}", most.unwrap_or(0.0)),
            };
            let verdict = |system| {
                let ratio = self.ratio(aim.row, aim.figure, system, aim.against);
                ratio.map_or("not measured".to_owned(), |ratio| {
                    let reached = aim.least.is_none_or(|least| ratio >= least)
                        && aim.most.is_none_or(|most| ratio <= most);
                    format!("{ratio:.2}, {}", if reached { "reached" } else { "not reached" })
                })
            };
            writeln!(
                out,
                "| {title}: {figure} {bound} x {other} | {} | {} |",
                verdict("trefoil"),
                verdict("trefoil-resp")
            )?;
        }
        let kills = self.of("failover", "trefoil").iter().filter_map(|kill| kill["ms"].as_f64()).collect();
        if let Some(ms) = median(kills) {
            let reached = if ms < FAILOVER_MS_MOST { "reached" } else { "not reached" };
            writeln!(out, "| fail-over: median under {FAILOVER_MS_MOST} ms | {ms:.0} ms, {reached} | |")?;
        }
        Ok(())
    }
}

impl Figure {
    fn name(self) -> &'static str {
        match self {
            Self::PerSecond => "a second",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Processor => "processor time",
            Self::BytesPerSecond => "bytes a second",
        }
    }

    /// This figure of a run, over all its kinds of request.
    fn of(self, run: &Value) -> Option<f64> {
        match self {
            Self::PerSecond => run["ops_per_second"].as_f64(),
            Self::P50 => quantile(run, 0.5),
            Self::P99 => quantile(run, 0.99),
            Self::Processor => run["servers_processor_us_per_op"].as_f64(),
            Self::BytesPerSecond => Some(run["ops_per_second"].as_f64()? * run["value_bytes_max"].as_f64()?),
        }
    }
}

/// The latency that this share of the run's requests, of all kinds, did not exceed; in microseconds.
fn quantile(run: &Value, share: f64) -> Option<f64> {
    let mut bars = Vec::new();
    for operation in run["operations"].as_object()?.values() {
        for bar in operation["histogram"].as_array()? {
            bars.push((bar[0].as_u64()?, bar[1].as_u64()?));
        }
    }
    bars.sort_unstable();
    let all: u64 = bars.iter().map(|(_, count)| count).sum();
    let mut below = 0;
    bars.into_iter().find_map(|(us, count)| {
        below += count;
        (below as f64 >= share * all as f64).then_some(us as f64)
    })
}

/// The middle one, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], upper) } else { upper })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(row: &str, system: &str, round: u32, per_second: f64, us: u64) -> String {
        let get = json!({ "histogram": [[us, 90]] });
        let put = json!({ "histogram": [[us * 2, 9], [us * 10, 1]] });
        json!({
            "row": row, "system": system, "round": round, "ops_per_second": per_second, "value_bytes_max": 1000,
            "servers_processor_us_per_op": 20.0, "operations": { "get": get, "put": put },
        })
        .to_string()
    }

    #[test]
    fn quantiles_are_over_all_kinds() {
        let run: Value = serde_json::from_str(&run("mix95", "trefoil", 1, 1.0, 100)).unwrap();
        let at = |share| quantile(&run, share).unwrap();
        assert_eq!([at(0.5), at(0.9), at(0.91), at(0.99), at(1.0)], [100.0, 100.0, 200.0, 200.0, 1000.0]);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The second round is twice as slow for both, and so the medians alone would say 1.5.
        let lines = [
            run("put64", "trefoil", 1, 2000.0, 100),
            run("put64", "trefoil", 2, 1000.0, 100),
            run("put64", "redis-wait", 1, 1000.0, 100),
            run("put64", "redis-wait", 2, 500.0, 100),
            json!({ "row": "failover", "system": "trefoil", "ms": 700.0 }).to_string(),
            json!({ "row": "disk", "bytes_per_second": 300e6 }).to_string(),
        ];
        let table = of(&lines.join("\n")).unwrap();
        assert!(
            table.contains(
                "| puts, 64 clients: a second at least 1.5 x Redis, always, WAIT 2 | 2.00, reached | \
            not measured |"
            ),
            "{table}"
        );
        assert!(table.contains("| puts, 64 clients | Trefoil, its own client | 1500 |"), "{table}");
        assert!(table.contains("median under 1000 ms | 700 ms, reached"), "{table}");
        assert!(table.contains("100.0 MB/s of three copies"), "{table}");
        assert!(of("{").unwrap_err().contains("line 1"));
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
