//! Reports as JUnit's XML, which continuous-integration services read.

use super::check::{Check, Group, Outcome};
use super::report::Report;

/// One suite for each group of each report. A known failure is a skipped case with its reason.
pub fn junit(reports: &[Report]) -> String {
    let mut text =
        String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"peregrine selftest\">\n");
    for report in reports {
        for group in &report.groups {
            text += &suite(report, group);
        }
    }
    text + "</testsuites>\n"
}

fn suite(report: &Report, group: &Group) -> String {
    let name = escaped(&format!("{}: {}{}", report.adapter.name, group.name, group.way));
    let skipped = group.checks.iter().filter(|check| matches!(check.outcome, Outcome::Known(..))).count();
    let (tests, failures, seconds) = (group.checks.len(), group.failures(), group.seconds);
    let mut text = format!(
        "  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n"
    );
    for check in &group.checks {
        text += &case(group, check);
    }
    text + "  </testsuite>\n"
}

fn case(group: &Group, check: &Check) -> String {
    let (class, name) = (escaped(&format!("{}.{}", group.section.name(), group.name)), escaped(&check.name));
    let begin = format!("    <testcase classname=\"{class}\" name=\"{name}\"");
    let Some(fault) = check.outcome.fault() else { return begin + "/>\n" };
    let fault = escaped(&fault);
    let element = match check.outcome {
        Outcome::Known(..) => format!("<skipped message=\"{fault}\"/>"),
        _ => format!("<failure message=\"{fault}\"/>"),
    };
    format!("{begin}>{element}</testcase>\n")
}

/// Text in an attribute. Characters that XML 1.0 cannot hold become U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\n' => escaped += "&#10;",
            c if c.is_control() && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selftest::check::Section;

    #[test]
    fn a_fault_is_a_failure_a_known_one_is_skipped_and_text_is_escaped() {
        let check = |name: &str, outcome| Check::new(name, outcome);
        let group = Group {
            section: Section::Kernel,
            name: "race".to_owned(),
            way: "",
            checks: vec![
                check("64 lanes", Outcome::Passed),
                check("a < b & \"c\"", Outcome::Failed("1 <> 2\u{1}".to_owned())),
                check("256 lanes", Outcome::Known("word 3".to_owned(), "weak barriers")),
            ],
            left_out: 0,
            seconds: 0.5,
        };
        let text = case(&group, &group.checks[0]) + &case(&group, &group.checks[1]) + &case(&group, &group.checks[2]);
        assert!(text.contains("<testcase classname=\"kernel.race\" name=\"64 lanes\"/>"), "{text}");
        assert!(
            text.contains("name=\"a &lt; b &amp; &quot;c&quot;\"><failure message=\"1 &lt;&gt; 2\u{fffd}\"/>"),
            "{text}"
        );
        assert!(text.contains("<skipped message=\"word 3 (known: weak barriers)\"/>"), "{text}");
        assert_eq!(group.failures(), 1);
    }
}
