//! A page about many reports, and the table of adapters for the README.

use super::compare::text;
use serde_json::Value;
use std::fmt::Write;

/// The adapters of some reports: a table with a line for each, sorted by kind and name.
pub fn table(reports: &[Value]) -> String {
    let mut lines: Vec<(bool, String)> = adapters(reports).map(|(report, adapter)| line(report, adapter)).collect();
    lines.sort();
    let mut table = String::from(
        "| adapter | driver | system | self-test | copy, GB/s | largest 7B that fits |\n|---|---|---|---|---:|---|\n",
    );
    lines.into_iter().for_each(|(_, line)| table += &line);
    table
}

/// A page: the table, then each report's groups.
pub fn page(reports: &[Value]) -> String {
    let mut text = String::from(
        "# Reports\n\n`peregrine selftest --summary` makes this page of the `.json` files in this folder.\n\n",
    );
    text += &table(reports);
    for (report, adapter) in adapters(reports) {
        let _ = write!(text, "\n## {}\n\n", super::compare::text(adapter, "adapter"));
        let _ = writeln!(text, "{}, peregrine {}, {}\n", system(report), of(report, "peregrine"), of(report, "date"));
        text += "| what | how | checks | of its limit | nmse | s | |\n|---|---|---:|---:|---:|---:|---|\n";
        for group in adapter["groups"].as_array().into_iter().flatten() {
            let how = match of(group, "how") {
                "" => of(group, "section").to_owned(),
                how => format!("{}, {how}", of(group, "section")),
            };
            let number = |key: &str| group[key].as_f64().unwrap_or_default();
            let _ = writeln!(
                text,
                "| {} | {how} | {} | {:.0} % | {:.1e} | {} | {} |",
                of(group, "name"),
                group["checks"],
                100.0 * number("share_of_limit"),
                number("nmse"),
                number("seconds"),
                of(group, "outcome")
            );
        }
        let _ = writeln!(text, "\n{}", of(adapter, "verdict"));
    }
    text
}

fn adapters(reports: &[Value]) -> impl Iterator<Item = (&Value, &Value)> {
    reports.iter().flat_map(|report| report["adapters"].as_array().into_iter().flatten().map(move |one| (report, one)))
}

fn of<'a>(value: &'a Value, key: &str) -> &'a str {
    text(value, key)
}

fn system(report: &Value) -> String {
    format!("{} {}", of(report, "os"), of(report, "arch"))
}

/// Whether the adapter is a CPU, and its line.
fn line(report: &Value, adapter: &Value) -> (bool, String) {
    let passed = adapter["passed"] == true;
    let outcome = if passed { "pass" } else { "**fail**" };
    let (checks, depth) = (&adapter["checks"], of(adapter, "depth"));
    let copy = adapter["copy_bytes_per_s"].as_f64().map_or_else(String::new, |bytes| format!("{:.1}", bytes / 1e9));
    let fitting = adapter["falcon_mamba_7b"].as_array().into_iter().flatten();
    let fitting = fitting.filter(|usable| usable["fits"] == true && usable["kernels"] != "fail");
    let largest = fitting.max_by_key(|usable| usable["bytes"].as_u64());
    let largest = largest.map_or_else(|| "unknown or none".to_owned(), |usable| of(usable, "weights").to_owned());
    let (name, driver, backend) = (of(adapter, "adapter"), of(adapter, "driver"), of(adapter, "backend"));
    let line = format!(
        "| {name} | {backend}, {driver} | {} | {outcome}, {checks} checks, {depth} | {copy} | {largest} |\n",
        system(report)
    );
    (of(adapter, "kind") == "CPU", line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_gpu_comes_before_a_cpu_and_a_failure_shows() {
        let adapter = |name: &str, kind: &str, passed: bool| {
            json!({
                "adapter": name, "kind": kind, "backend": "Vulkan", "driver": "1.0", "passed": passed, "checks": 12,
                "depth": "quick", "copy_bytes_per_s": 2.5e9, "verdict": "PASS 12/12",
                "falcon_mamba_7b": [
                    { "weights": "f32", "bytes": 30, "fits": false, "kernels": "pass" },
                    { "weights": "bf16", "bytes": 15, "fits": true, "kernels": "fail" },
                    { "weights": "q8_0", "bytes": 8, "fits": true, "kernels": "pass" },
                    { "weights": "q4_0", "bytes": 4, "fits": true, "kernels": "pass" },
                ],
                "groups": [{ "section": "kernel", "name": "matvec", "how": "in shards", "checks": 3, "outcome": "pass" }],
            })
        };
        let report = |adapters: Vec<Value>| json!({ "os": "linux", "arch": "x86_64", "adapters": adapters });
        let reports =
            [report(vec![adapter("llvmpipe", "CPU", true)]), report(vec![adapter("Voodoo", "discrete GPU", false)])];
        let table = table(&reports);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(lines.len(), 2, "{table}");
        assert!(
            lines[0].starts_with("| Voodoo | Vulkan, 1.0 | linux x86_64 | **fail**, 12 checks, quick | 2.5 | q8_0 |"),
            "{table}"
        );
        assert!(lines[1].starts_with("| llvmpipe |") && lines[1].contains("| pass,"), "{table}");
        let page = page(&reports);
        assert!(page.contains(&table) && page.contains("| matvec | kernel, in shards | 3 |"), "{page}");
    }
}
