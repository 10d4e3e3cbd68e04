//! Results of models of pictures, as Markdown and JSON.

use super::{PictureReport, PictureRow, PictureTimes};
use serde_json::{Value, json};
use std::fmt::Write;

impl PictureRow {
    /// Pictures per second of the fastest run.
    pub fn per_s(&self) -> Option<f64> {
        self.times.as_ref().map(|times| self.size.batch as f64 / times.best())
    }

    /// Bytes on the device: counted if it ran, else planned.
    pub fn bytes(&self) -> u64 {
        self.times.as_ref().map_or(self.planned, |times| times.allocated)
    }

    /// This model compared with another at the same size: times as fast, and the share of its memory saved.
    fn beside(&self, other: &PictureRow) -> String {
        let faster = self.per_s().zip(other.per_s()).map(|(own, other)| format!("{:.2}x", own / other));
        let smaller = 100.0 * (self.bytes() as f64 / other.bytes() as f64 - 1.0);
        format!("{}, {smaller:+.1} %", faster.unwrap_or_else(|| "-".to_owned()))
    }
}

impl PictureReport {
    /// Rows of one model and batch, by size of the pictures.
    pub fn series(&self) -> Vec<(String, Vec<&PictureRow>)> {
        let batches = self.rows.iter().any(|row| row.size.batch != self.rows[0].size.batch);
        let mut series: Vec<(String, Vec<&PictureRow>)> = Vec::new();
        for row in &self.rows {
            let of = if batches { format!(", batch {}", row.size.batch) } else { String::new() };
            let name = format!("{}{of}", row.model);
            match series.iter_mut().find(|(known, _)| *known == name) {
                Some((_, rows)) => rows.push(row),
                None => series.push((name, vec![row])),
            }
        }
        series
    }

    /// JSON: an array with an object per row.
    pub fn json(&self) -> Value {
        let of = |row: &PictureRow| {
            let [height, width] = row.size.image;
            let times = row.times.as_ref();
            let per_picture = |total: u64| total as f64 / row.size.batch as f64;
            json!({
                "model": row.model, "weights": self.format.name(), "adapter": self.adapter.name,
                "backend": self.adapter.backend, "driver": self.adapter.driver, "commit": self.commit,
                "height": height, "width": width, "batch": row.size.batch, "tokens": row.tokens,
                "pictures_per_s": row.per_s(), "seconds_best": times.map(PictureTimes::best),
                "seconds_mean": times.map(PictureTimes::mean), "seconds": times.map(|times| times.seconds.clone()),
                "gpu_bytes": times.map(|times| times.allocated), "planned_bytes": row.planned,
                "weight_bytes": row.weight_bytes,
                "gflop_per_picture": times.map(|times| 2.0 * per_picture(times.totals.macs) / 1e9),
                "gflop_s": times.map(|times| 2.0 * times.totals.macs as f64 / times.best() / 1e9),
                "dispatches": times.map(|times| times.totals.dispatches), "refused": row.refused, "schema": 1,
            })
        };
        self.rows.iter().map(of).collect()
    }

    /// A Markdown table; the last column compares the first model with each other one at the same size.
    pub fn markdown(&self) -> String {
        let first = self.rows.first().map_or_else(String::new, |row| row.model.clone());
        let mut text = format!(
            "| model | picture | tokens | batch | pictures/s | s, best | s, mean | GFLOP/s | MB on the device | besides weights, MB | {first} beside it |\n\
             |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n"
        );
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        for row in &self.rows {
            let times = row.times.as_ref();
            let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
            let seconds = |of: fn(&PictureTimes) -> f64| or_dash(times.map(|times| format!("{:.4}", of(times))));
            let speed = or_dash(row.per_s().map(|speed| format!("{speed:.2}")));
            let flops = times.map(|times| format!("{:.1}", 2.0 * times.totals.macs as f64 / times.best() / 1e9));
            let beside = self.rows.iter().find(|own| own.model == first && own.size == row.size);
            let beside = beside.filter(|_| row.model != first).map_or_else(String::new, |own| own.beside(row));
            let [height, width] = row.size.image;
            let _ = writeln!(
                text,
                "| {} | {height}x{width} | {} | {} | {speed} | {} | {} | {} | {} | {} | {beside} |",
                row.model,
                row.tokens,
                row.size.batch,
                seconds(PictureTimes::best),
                seconds(PictureTimes::mean),
                or_dash(flops),
                mb(row.bytes()),
                mb(row.bytes().saturating_sub(row.weight_bytes)),
            );
        }
        text.push('\n');
        for row in &self.rows {
            let [height, width] = row.size.image;
            if let Some(why) = &row.refused {
                let _ = writeln!(text, "{} {height}x{width}, batch {} does not run: {why}", row.model, row.size.batch);
            }
        }
        let commit = if self.commit.is_empty() { String::new() } else { format!(", build {}", self.commit) };
        let _ = writeln!(text, "{} · weights {} · {}{commit}", self.adapter, self.format, self.variants);
        text
    }
}
