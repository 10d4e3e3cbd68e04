//! What changed from one report to another: of a driver, of a build, of a machine.

use serde_json::Value;

/// Errors that grow by more than this factor are reported: below it they depend on which cases had time to run.
const GREW: f64 = 4.0;
/// Speeds that differ by more than this share are reported: shared machines differ by as much from run to run.
const FASTER: f64 = 0.25;

/// A difference between two reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whether something is worse than before.
    pub worse: bool,
    /// The difference, in words.
    pub said: String,
}

/// What changed from the older report to the newer one, both with all their adapters. Adapters are matched by name and backend.
pub fn compare(old: &Value, new: &Value) -> Vec<Change> {
    let mut changes = Vec::new();
    for now in list(new, "adapters") {
        let same = |then: &&Value| ["adapter", "backend"].iter().all(|key| then[*key] == now[*key]);
        match list(old, "adapters").iter().find(same) {
            None => changes.push(neutral(format!("{}: not in the older report", text(now, "adapter")))),
            Some(then) => of_adapter(then, now, &mut changes),
        }
    }
    changes
}

fn of_adapter(then: &Value, now: &Value, changes: &mut Vec<Change>) {
    let name = text(now, "adapter");
    for key in ["driver", "features", "limits", "depth"] {
        if then[key] != now[key] {
            let said = match (&then[key], &now[key]) {
                (Value::String(then), Value::String(now)) => format!("{name}: {key} was {then}, is {now}"),
                _ => format!("{name}: other {key}"),
            };
            changes.push(neutral(said));
        }
    }
    let speed = |report: &Value| report["copy_bytes_per_s"].as_f64();
    if let (Some(then), Some(now)) = (speed(then), speed(now)) {
        changes.extend(of_speed(&format!("{name}: copy"), then / 1e9, now / 1e9, "GB/s"));
    }
    for group in list(now, "groups") {
        let same = |other: &&Value| ["section", "name", "how"].iter().all(|key| other[*key] == group[*key]);
        let what = match text(group, "how") {
            "" => text(group, "name").to_owned(),
            how => format!("{}, {how}", text(group, "name")),
        };
        match list(then, "groups").iter().find(same) {
            None => changes.push(neutral(format!("{what}: new"))),
            Some(other) => of_group(&what, other, group, changes),
        }
    }
    for group in list(then, "groups") {
        let same = |other: &&Value| ["section", "name", "how"].iter().all(|key| other[*key] == group[*key]);
        if !list(now, "groups").iter().any(|other| same(&other)) {
            changes.push(neutral(format!("{}: no longer tested", text(group, "name"))));
        }
    }
}

fn of_group(what: &str, then: &Value, now: &Value, changes: &mut Vec<Change>) {
    let outcomes = [then, now].map(|group| text(group, "outcome"));
    if outcomes[0] != outcomes[1] {
        let said = format!("{what}: was {}, is {}", outcomes[0], outcomes[1]);
        changes.push(Change { worse: outcomes[1] == "FAIL", said });
    }
    let share = |group: &Value| group["share_of_limit"].as_f64().unwrap_or(0.0);
    let (before, after) = (share(then), share(now));
    if before > 0.0 && after > GREW * before {
        let said = format!("{what}: worst error was {:.0} % of its limit, is {:.0} %", 100.0 * before, 100.0 * after);
        changes.push(Change { worse: true, said });
    }
    for check in list(now, "listed") {
        let older = list(then, "listed").iter().find(|other| other["name"] == check["name"]);
        let speed = |check: &Value| check["gb_per_s"].as_f64();
        if let (Some(then), Some(now)) = (older.and_then(speed), speed(check)) {
            changes.extend(of_speed(text(check, "name"), then, now, "GB/s"));
        }
    }
}

fn of_speed(what: &str, then: f64, now: f64, unit: &str) -> Option<Change> {
    let changed = (now / then - 1.0).abs() > FASTER;
    let said = format!("{what}: was {then:.2} {unit}, is {now:.2}");
    changed.then_some(Change { worse: now < then, said })
}

fn neutral(said: String) -> Change {
    Change { worse: false, said }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(outcome: &str, share: f64, speed: f64, driver: &str) -> Value {
        let product = json!({ "name": "1 token", "gb_per_s": speed });
        let groups = json!([
            { "section": "kernel", "name": "matvec", "how": "", "outcome": outcome, "share_of_limit": share, "listed": [] },
            { "section": "speed", "name": "product", "how": "", "outcome": "pass", "listed": [product] },
        ]);
        let adapter = json!({ "adapter": "Voodoo", "backend": "Vulkan", "driver": driver, "copy_bytes_per_s": 1e9, "groups": groups });
        json!({ "adapters": [adapter] })
    }

    #[test]
    fn a_report_does_not_differ_from_itself() {
        let same = report("pass", 0.1, 100.0, "1");
        assert_eq!(compare(&same, &same), []);
        assert_eq!(compare(&same, &report("pass", 0.12, 90.0, "1")), [], "less than what varies from run to run");
    }

    #[test]
    fn each_kind_of_change_is_told_and_what_is_worse_is_marked() {
        let old = report("pass", 0.1, 100.0, "1");
        for (new, worse, said) in [
            (report("FAIL", 0.1, 100.0, "1"), true, "matvec: was pass, is FAIL"),
            (report("pass", 0.5, 100.0, "1"), true, "worst error was 10 % of its limit, is 50 %"),
            (report("pass", 0.1, 50.0, "1"), true, "1 token: was 100.00 GB/s, is 50.00"),
            (report("pass", 0.1, 150.0, "1"), false, "1 token: was 100.00 GB/s, is 150.00"),
            (report("pass", 0.1, 100.0, "2"), false, "driver was 1, is 2"),
        ] {
            let changes = compare(&old, &new);
            let [change] = &changes[..] else { panic!("{changes:?}") };
            assert!(change.worse == worse && change.said.contains(said), "{change:?}");
        }
        let mut fewer = report("pass", 0.1, 100.0, "1");
        fewer["adapters"][0]["groups"].as_array_mut().unwrap().remove(0);
        assert!(compare(&old, &fewer)[0].said.contains("matvec: no longer tested"));
        assert!(compare(&fewer, &old)[0].said.contains("matvec: new"));
        let none = json!({ "adapters": [] });
        assert!(compare(&none, &old)[0].said.contains("Voodoo: not in the older report"));
    }
}
