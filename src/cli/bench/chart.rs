//! SVG charts of speed and memory against position.

use peregrine::bench::{Length, Longest, PictureReport, PictureRow, Report, Subject};
use peregrine::gpu::AdapterInfo;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::FontStyle;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Font of labels.
const FONT: (&str, u32) = ("sans-serif", 15);

/// Draws on an area of `size` pixels below a title; gives the SVG text.
fn svg(size: (u32, u32), title: &str, draw: impl FnOnce(Area<'_>) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    area.draw(&Text::new(title, (20, 12), ("sans-serif", 18, FontStyle::Bold).into_font()))?;
    draw(area.split_vertically(36).1)?;
    area.present()?;
    drop(area);
    Ok(svg)
}

/// What is drawn and on which adapter.
fn title(subject: &Subject, adapter: &AdapterInfo) -> String {
    format!("{} {} · {}", subject.model, subject.weights, adapter.name)
}

/// A chart with room for its axes.
fn framed<'a, 'b>(area: &'a Area<'b>) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(area);
    chart.margin(12).x_label_area_size(40).y_label_area_size(80);
    chart
}

/// Tokens per second against depth, one line per test, above device memory against depth.
pub fn draw(report: &Report) -> anyhow::Result<String> {
    svg((900, 620), &title(&report.subject, &report.adapter), |area| draw_on(area, report))
}

fn draw_on(area: Area<'_>, report: &Report) -> anyhow::Result<()> {
    let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for row in &report.rows {
        let name = row.test.split(" @ ").next().unwrap_or(&row.test).to_owned();
        let point = (row.size.depth as f64, row.tokens_per_s());
        match lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, points)) => points.push(point),
            None => lines.push((name, vec![point])),
        }
    }
    let deepest = report.rows.iter().map(|row| row.size.depth).max().unwrap_or(0).max(1) as f64;
    let fastest = report.rows.iter().map(|row| row.tokens_per_s()).fold(1.0, f64::max);
    let bytes = report.gpu_bytes as f64 / 1e6;

    let (speed, memory) = area.split_vertically(360);
    let mut chart = framed(&speed).build_cartesian_2d(0.0..deepest, 0.0..fastest * 1.1)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("depth (tokens)").y_desc("tokens/s").label_style(FONT).draw()?;
    for (i, (name, points)) in lines.into_iter().enumerate() {
        let color = Palette99::pick(i).to_rgba();
        let line = LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3);
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2));
        chart.draw_series(line)?.label(name).legend(legend);
    }
    chart.configure_series_labels().background_style(WHITE).border_style(BLACK).label_font(FONT).draw()?;

    let mut chart = framed(&memory).build_cartesian_2d(0.0..deepest, 0.0..bytes * 1.2)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("depth (tokens)").y_desc("MB on the device").label_style(FONT).draw()?;
    let depths = report.rows.iter().map(|row| (row.size.depth as f64, row.gpu_bytes as f64 / 1e6));
    let mut depths: Vec<_> = depths.collect();
    depths.sort_by(|a, b| a.0.total_cmp(&b.0));
    chart.draw_series(LineSeries::new(depths, BLUE.stroke_width(2)).point_size(3))?;
    Ok(())
}

/// An axis label for powers of ten; empty for other values.
fn power_of_ten(value: &f64) -> String {
    let power = value.log10();
    if (power - power.round()).abs() > 1e-6 {
        return String::new();
    }
    match *value {
        v if v >= 1e6 => format!("{:.0}M", v / 1e6),
        v if v >= 1e3 => format!("{:.0}k", v / 1e3),
        v => format!("{v}"),
    }
}

/// Memory without weights against length, compared with a transformer's KV cache, on log axes; speed against length below.
pub fn draw_longest(longest: &Longest) -> anyhow::Result<String> {
    svg((900, 760), &title(&longest.subject, &longest.adapter), |area| draw_longest_on(area, longest))
}

fn draw_longest_on(area: Area<'_>, longest: &Longest) -> anyhow::Result<()> {
    let (first, last) =
        (1000.0, longest.lengths.iter().map(|length| length.tokens).max().unwrap_or(0).max(2000) as f64);
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let cache = |tokens: f64| tokens * mb(longest.key_value_bytes);
    let least =
        longest.lengths.iter().map(|length| mb(longest.working_bytes(length))).fold(cache(first) / 4.0, f64::min);

    let (memory, speed) = area.split_vertically(440);

    let mut chart =
        framed(&memory).build_cartesian_2d((first..last).log_scale(), (least / 2.0..cache(last) * 2.0).log_scale())?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("tokens").y_desc("MB without weights").label_style(FONT);
    mesh.x_label_formatter(&power_of_ten).y_label_formatter(&power_of_ten).draw()?;
    let measured = |prompt: bool, value: &dyn Fn(&Length) -> f64| -> Vec<(f64, f64)> {
        let of_kind = longest.lengths.iter().filter(|length| length.prompt == prompt);
        of_kind.map(|length| (length.tokens as f64, value(length))).collect()
    };
    let working = |length: &Length| mb(longest.working_bytes(length));
    let cached = |share: f64| vec![(first, cache(first) / share), (last, cache(last) / share)];
    let lines = [
        ("prefill, measured", BLUE, measured(true, &working)),
        ("decode, measured", GREEN, measured(false, &working)),
        ("KV cache of a transformer, computed", RED, cached(1.0)),
        ("KV cache with 4 query heads per KV head", MAGENTA, cached(4.0)),
    ];
    for (name, color, points) in lines {
        let size = if name.ends_with("measured") { 3 } else { 0 };
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2));
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(size))?.label(name).legend(legend);
    }
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(BLACK);
    labels.label_font(FONT).draw()?;

    let fastest = longest.lengths.iter().map(|length| length.tokens_per_s).fold(1.0, f64::max);
    let mut chart = framed(&speed).build_cartesian_2d((first..last).log_scale(), 0.0..fastest * 1.1)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("tokens").y_desc("tokens/s").label_style(FONT).x_label_formatter(&power_of_ten).draw()?;
    for (color, prompt) in [(BLUE, true), (GREEN, false)] {
        let points = measured(prompt, &|length| length.tokens_per_s);
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?;
    }
    Ok(())
}

/// Pictures per second against the side of the pictures, above device memory, each on a log axis; a line per model and batch.
pub fn draw_pictures(report: &PictureReport) -> anyhow::Result<String> {
    let model = report.rows.first().map_or("", |row| row.model.as_str());
    let title = format!("{model} and its peers, {} · {}", report.format, report.adapter.name);
    svg((900, 860), &title, |area| {
        let (speed, memory) = area.split_vertically(412);
        draw_series(&speed, report, "pictures/s", &|row| row.per_s())?;
        draw_series(&memory, report, "MB on the device", &|row| Some(row.bytes() as f64 / 1e6))
    })
}

/// One value of every row against the side of its pictures; rows without it are left out.
fn draw_series(
    area: &Area<'_>,
    report: &PictureReport,
    what: &str,
    value: &dyn Fn(&PictureRow) -> Option<f64>,
) -> anyhow::Result<()> {
    let sides = report.rows.iter().map(|row| row.size.image[0] as f64);
    let (first, last) = (sides.clone().fold(f64::INFINITY, f64::min), sides.fold(0.0, f64::max));
    let values = report.rows.iter().filter_map(value);
    let (least, most) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(0.0, f64::max));
    if most <= 0.0 {
        return Ok(()); // nothing ran
    }
    let across = first * 0.95..last * 1.05;
    let mut chart = framed(area).build_cartesian_2d(across, (least / 2.0..most * 2.0).log_scale())?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("side of the picture (pixels)").y_desc(what).label_style(FONT);
    let number = |value: &f64| if *value < 1.0 { format!("{value:.2}") } else { format!("{value:.0}") };
    mesh.x_label_formatter(&number).y_label_formatter(&number).draw()?;
    for (i, (name, rows)) in report.series().into_iter().enumerate() {
        let mut points: Vec<(f64, f64)> =
            rows.into_iter().filter_map(|row| Some((row.size.image[0] as f64, value(row)?))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let color = Palette99::pick(i).to_rgba();
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2));
        chart.draw_series(LineSeries::new(points, color.stroke_width(2)).point_size(3))?.label(name).legend(legend);
    }
    let mut labels = chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).border_style(BLACK);
    labels.label_font(FONT).draw()?;
    Ok(())
}
