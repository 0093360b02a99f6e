//! The page: self-contained, without scripts, legible in light and dark.

use super::chart::escape;
use super::leaderboard::{refusals, remarks, standings};
use super::plots::{Plot, STYLE};
use super::search;
use super::summary::{ChangedSample, Picture, Summary};
use super::table::{accuracies, results, thousands, Table};
use super::{Captioned, Extras};
use std::fmt::Write;

const PAGE_STYLE: &str = "\
:root{color-scheme:light dark;--ink:#24292f;--faint:#57606a;--ground:#fff;--panel:#f6f8fa;--line:#d0d7de;--accent:#0072b2}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--faint:#9ea7b3;--ground:#0d1117;--panel:#161b22;--line:#30363d;--accent:#56b4e9}}\
body{margin:0 auto;max-width:1080px;padding:32px 20px 80px;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,sans-serif}\
h1{font-size:28px;margin:0 0 4px}h2{font-size:20px;margin:44px 0 12px}p.lead{color:var(--faint);margin:0 0 24px}\
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}\
th,td{padding:7px 12px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\
th:first-child,td:first-child{text-align:left}thead th{color:var(--faint);font-weight:600}caption{text-align:left;color:var(--faint);padding-bottom:6px}\
.verdict{border-left:4px solid var(--accent);background:var(--panel);padding:14px 18px;margin:20px 0;font-size:17px}\
.verdict small{display:block;color:var(--faint);font-size:14px;margin-top:4px}\
figure{margin:0 0 20px}figure svg{display:block;width:100%;height:auto;max-width:860px}\
.row{display:flex;flex-wrap:wrap;gap:14px;align-items:flex-end}.row figure svg{width:270px}.confusion svg{width:400px}\
.thumb{text-align:center;font-size:13px;color:var(--faint)}.thumb img,.big img{image-rendering:pixelated;border:1px solid var(--line);display:block;margin:0 auto 4px}\
.thumb img{width:72px;height:72px}.big img{width:140px;height:140px}\
pre{background:var(--panel);padding:14px 18px;overflow-x:auto;font-size:13px}a{color:var(--accent)}";

/// The whole page.
pub(super) fn page(summary: &Summary, plots: &[Plot]) -> String {
    let title = format!("{} on {}", summary.command, summary.data.name);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>kdengine: {0}</title><style>{PAGE_STYLE}{STYLE}</style></head><body>\n<h1>{0}</h1>\n",
        escape(&title)
    );
    let data = &summary.data;
    let learned = match data.train {
        0 => String::new(),
        images => format!("{} training images for students, ", thousands(images as f64)),
    };
    let _ = writeln!(
        html,
        "<p class=\"lead\">{learned}{} test images, {} classes · {}</p>",
        thousands(data.test as f64),
        data.classes.len(),
        escape(&summary.run)
    );
    html += &models(summary, "Accuracy is of the test set; latency and throughput were measured on this machine.");
    html += &verdict(summary);
    html += &leaderboard(summary);
    if let Some(found) = &summary.search {
        let _ = writeln!(
            html,
            "<h2>Search</h2>\n{}<p>{}</p>",
            table(&search::table(found), ""),
            escape(&search::remark(found))
        );
    }
    let beside = |plot: &&Plot| !plot.heading.is_empty() || plot.name.starts_with("leaderboard");
    for plot in plots.iter().filter(beside) {
        if !plot.heading.is_empty() {
            let _ = writeln!(html, "<h2>{}</h2>", escape(&plot.heading));
        }
        let _ = writeln!(html, "<figure>{}</figure>", plot.svg);
        if !plot.remark.is_empty() {
            let _ = writeln!(html, "<p>{}</p>", escape(&plot.remark));
        }
    }
    html += &extras(&summary.extras);
    html += &soft_targets(summary, plots);
    html += &confusions(plots);
    html += &changed(
        "Most improved by distillation",
        "The baseline is wrong, the distilled student is right.",
        &summary.improved,
        data,
    );
    html += &changed(
        "Most hurt by distillation",
        "The baseline is right, the distilled student is wrong.",
        &summary.hurt,
        data,
    );
    html += "<h2>Settings</h2>\n";
    let _ = writeln!(html, "<pre>{}</pre>", escape(summary.config.trim()));
    html += "<h2>Environment</h2>\n";
    let rows = summary.environment.iter().map(|(key, value)| vec![key.clone(), value.clone()]).collect();
    html += &table(&Table { columns: vec![String::new(), String::new()], rows }, "");
    html + "</body></html>\n"
}

fn table(table: &Table, caption: &str) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<String>()
    };
    let head = cells("th", &mut table.columns.iter().map(String::as_str));
    let body: String = table
        .rows
        .iter()
        .map(|row| format!("<tr>{}</tr>\n", cells("td", &mut row.iter().map(String::as_str))))
        .collect();
    let caption = if caption.is_empty() { String::new() } else { format!("<caption>{}</caption>", escape(caption)) };
    format!(
        "<div class=\"scroll\"><table>{caption}<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n"
    )
}

/// The models side by side, if there are any.
fn models(summary: &Summary, caption: &str) -> String {
    match summary.models.is_empty() {
        true => String::new(),
        false => table(&results(summary), caption),
    }
}

fn verdict(summary: &Summary) -> String {
    let Some(c) = &summary.comparison else { return String::new() };
    let list = |values: &[f64]| values.iter().map(|v| format!("{v:.2}")).collect::<Vec<_>>().join(", ");
    let spread = c.gain_sd.map(|sd| format!(" ± {sd:.2}")).unwrap_or_default();
    format!(
        "<div class=\"verdict\">{}<small>Difference {:+.2}{spread} points; {}. Distilled: {} %. Baseline: {} %.</small></div>\n",
        escape(&c.verdict),
        c.gain,
        escape(&c.test),
        list(&c.distilled),
        list(&c.baseline)
    )
}

fn leaderboard(summary: &Summary) -> String {
    let Some(board) = &summary.leaderboard else { return String::new() };
    let mut html = format!("<h2>Leaderboard</h2>\n{}", table(&standings(board), ""));
    if !board.refused.is_empty() {
        html += &table(&refusals(board), "Not on the board, because the method cannot use what it was given.");
    }
    remarks(board).iter().for_each(|remark| {
        let _ = writeln!(html, "<p>{}</p>", escape(remark));
    });
    html
}

/// What a recipe adds.
fn extras(extras: &Extras) -> String {
    let mut html = String::new();
    for of_recipe in &extras.tables {
        let _ = writeln!(html, "<h2>{}</h2>", escape(&of_recipe.title));
        html += &table(&accuracies(of_recipe), "");
    }
    for gallery in &extras.galleries {
        let _ = writeln!(html, "<h2>{}</h2>\n<p>{}</p>", escape(&gallery.title), escape(&gallery.about));
        let thumb = |c: &Captioned| {
            format!("<div class=\"thumb\">{}{}</div>", image(&c.picture, &c.caption), escape(&c.caption))
        };
        let thumbs: String = gallery.pictures.iter().map(thumb).collect();
        let _ = writeln!(html, "<div class=\"row\">{thumbs}</div>");
    }
    extras.notes.iter().for_each(|note| {
        let _ = writeln!(html, "<p>{}</p>", escape(note));
    });
    html
}

fn soft_targets(summary: &Summary, plots: &[Plot]) -> String {
    if summary.soft_targets.is_empty() {
        return String::new();
    }
    let mut html =
        "<h2>Soft targets</h2>\n<p>What the teacher says about test images: the higher the temperature, the more of \
                    what it knows about the other classes shows.</p>\n"
            .to_string();
    for (i, target) in summary.soft_targets.iter().enumerate() {
        let prefix = format!("soft-targets-{}-", i + 1);
        let bars = plots.iter().filter(|plot| plot.name.starts_with(&prefix));
        let figures: String = bars.map(|plot| format!("<figure>{}</figure>", plot.svg)).collect();
        let class = summary.data.classes.get(target.label).map_or("?", String::as_str);
        let picture = image(&target.picture, &format!("test image of class {class}"));
        let _ = writeln!(html, "<div class=\"row\"><figure class=\"big\">{picture}</figure>{figures}</div>");
    }
    html
}

fn confusions(plots: &[Plot]) -> String {
    let matrices: String = plots
        .iter()
        .filter(|plot| plot.name.starts_with("confusion-"))
        .map(|plot| format!("<figure class=\"confusion\">{}</figure>", plot.svg))
        .collect();
    match matrices.is_empty() {
        true => String::new(),
        false => format!("<h2>Confusion matrices</h2>\n<div class=\"row\">{matrices}</div>\n"),
    }
}

fn changed(heading: &str, about: &str, samples: &[ChangedSample], data: &super::DataSummary) -> String {
    if samples.is_empty() {
        return String::new();
    }
    let class = |i: usize| escape(data.classes.get(i).map_or("?", String::as_str));
    let mut html = format!("<h2>{heading}</h2>\n<p>{about}</p>\n<div class=\"row\">");
    for s in samples {
        let picture = image(&s.picture, &format!("test image {}", s.index));
        let (label, baseline, distilled, teacher) =
            (class(s.label), class(s.baseline), class(s.distilled), class(s.teacher));
        let _ = write!(
            html,
            "<div class=\"thumb\" title=\"test image {}; teacher: {teacher}\">{picture}is {label}<br>{baseline} → {distilled}</div>",
            s.index
        );
    }
    html + "</div>\n"
}

/// A picture within the page.
fn image(picture: &Picture, alternative: &str) -> String {
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, png_bytes(picture));
    format!("<img alt=\"{}\" src=\"data:image/png;base64,{encoded}\">", escape(alternative))
}

fn png_bytes(picture: &Picture) -> Vec<u8> {
    let [height, width] = picture.size;
    let plane = height * width;
    let (colour, pixels) = match picture.channels {
        3 => (
            png::ColorType::Rgb,
            (0..plane).flat_map(|i| (0..3).map(move |c| c * plane + i)).map(|i| picture.pixels[i]).collect(),
        ),
        _ => (png::ColorType::Grayscale, picture.pixels[..plane].to_vec()),
    };
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(colour);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.expect("a picture of as many bytes as it has pixels, in memory");
    bytes
}
