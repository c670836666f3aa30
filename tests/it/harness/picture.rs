//! Screens drawn as SVG: still, and moving. No script and no font of its own, so that it shows wherever images do.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use vt100::{Color, Screen};

/// Pictures a second, at most.
const RATE: u32 = 8;
/// How long the last picture of a film stands.
const REST: Duration = Duration::from_secs(6);

const CHARACTER: f64 = 8.43;
const LINE: u32 = 19;
const MARGIN: u32 = 16;
const BAR: u32 = 32;

/// Draws one screen, without empty lines at its end.
pub(super) fn still(screen: &Screen, title: &str) -> String {
    let mut lines = lines(screen);
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let (width, height) = size(screen, lines.len());
    let mut out = frame(width, height, title);
    for (row, line) in lines.iter().enumerate().filter(|(_, line)| !line.is_empty()) {
        let _ = writeln!(out, r#"<text y="{}">{line}</text>"#, BAR + baseline(row));
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// Draws what a terminal showed over time; where nothing moves the last screen is seen.
pub(super) fn film(screens: impl Iterator<Item = (Duration, Screen)>, title: &str) -> String {
    let mut frames: Vec<(Duration, Vec<String>)> = Vec::new();
    let (mut last, mut shape) = (None, None);
    for (time, screen) in screens {
        shape = Some(size(&screen, screen.size().0.into()));
        let early = frames.last().is_some_and(|(before, _)| time < *before + Duration::from_secs(1) / RATE);
        if early {
            last = Some((time, screen));
            continue;
        }
        // What was passed over stands until now, unless something newer came at once.
        frames.extend(last.take().map(|(time, screen)| (time, lines(&screen))));
        frames.push((time, lines(&screen)));
    }
    frames.extend(last.map(|(time, screen)| (time, lines(&screen))));
    frames.dedup_by(|next, before| next.1 == before.1);
    let (width, height) = shape.expect("something was shown");
    let end = frames.last().map_or(Duration::ZERO, |(time, _)| *time) + REST;

    // All pictures stand side by side, the last one first, and are pushed past a window.
    let mut known: HashMap<String, usize> = HashMap::new();
    let (mut rows, mut strip, mut steps) = (String::new(), String::new(), String::new());
    let count = frames.len();
    for (number, (time, lines)) in frames.into_iter().enumerate() {
        let place = if number + 1 == count { 0 } else { number + 1 };
        let left = width * u32::try_from(place).unwrap();
        for (row, line) in lines.into_iter().enumerate().filter(|(_, line)| !line.is_empty()) {
            let next = known.len();
            let name = *known.entry(line).or_insert_with_key(|line| {
                let _ = writeln!(rows, r#"<text id="r{next}">{line}</text>"#);
                next
            });
            let _ = write!(strip, r##"<use href="#r{name}" x="{left}" y="{}"/>"##, baseline(row));
        }
        strip.push('\n');
        // From the first picture on, whatever time it took to come.
        let percent = if number == 0 { 0.0 } else { 100.0 * time.as_secs_f64() / end.as_secs_f64() };
        let _ = write!(steps, "{percent:.2}%{{transform:translateX(-{left}px)}}");
    }
    let mut out = frame(width, height, title);
    let _ = write!(
        out,
        "<style>@keyframes play{{{steps}}}.film{{animation:play {:.1}s steps(1,end) infinite}}\
         @media(prefers-reduced-motion:reduce){{.film{{animation:none}}}}</style>\n<defs>\n{rows}</defs>\n\
         <svg y=\"{BAR}\" width=\"{width}\" height=\"{}\"><g class=\"film\">\n{strip}</g></svg>\n</g>\n</svg>\n",
        end.as_secs_f64(),
        height - BAR,
    );
    out
}

fn size(screen: &Screen, rows: usize) -> (u32, u32) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a screen is small")]
    let width = (f64::from(screen.size().1) * CHARACTER).ceil() as u32 + 2 * MARGIN;
    (width, u32::try_from(rows).unwrap() * LINE + 2 * MARGIN + BAR)
}

fn baseline(row: usize) -> u32 {
    u32::try_from(row).unwrap() * LINE + MARGIN + 10
}

/// The window around it, up to where its lines come.
fn frame(width: u32, height: u32, title: &str) -> String {
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">
<rect width="100%" height="100%" rx="8" fill="#16181d"/>
<g fill="#3b3f4a"><circle cx="20" cy="18" r="6"/><circle cx="40" cy="18" r="6"/><circle cx="60" cy="18" r="6"/></g>
<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" fill="#d5d8df" xml:space="preserve">
<text x="80" y="23" fill="#8b909c">{title}</text>
"##,
        title = escape(title)
    )
}

/// The rows of a screen: a `tspan` for each stretch of equal style, placed so that fonts cannot drift.
fn lines(screen: &Screen) -> Vec<String> {
    let (rows, columns) = screen.size();
    (0..rows).map(|row| line(screen, row, columns)).collect()
}

fn line(screen: &Screen, row: u16, columns: u16) -> String {
    let mut spans: Vec<(u16, String, String)> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else { continue };
        if cell.is_wide_continuation() {
            continue;
        }
        let style = style(cell);
        let text = if cell.has_contents() { cell.contents() } else { " " };
        match spans.last_mut() {
            Some((_, last, run)) if *last == style => run.push_str(text),
            _ => spans.push((column, style, text.to_owned())),
        }
    }
    let mut line = String::new();
    for (column, style, text) in spans.iter().filter(|(_, _, text)| !text.trim().is_empty()) {
        let text = text.trim_end();
        let lead = text.chars().take_while(|character| *character == ' ').count();
        let x =
            (f64::from(*column) + f64::from(u16::try_from(lead).unwrap())) * CHARACTER + f64::from(MARGIN);
        let _ = write!(line, r#"<tspan x="{x:.1}"{style}>{}</tspan>"#, escape(text.trim_start()));
    }
    line
}

fn style(cell: &vt100::Cell) -> String {
    let mut style = String::new();
    if let Some(color) = color(cell.fgcolor()) {
        let _ = write!(style, r#" fill="{color}""#);
    }
    if cell.bold() {
        style.push_str(r#" font-weight="bold""#);
    }
    if cell.dim() {
        style.push_str(r#" opacity="0.6""#);
    }
    if cell.italic() {
        style.push_str(r#" font-style="italic""#);
    }
    if cell.underline() {
        style.push_str(r#" text-decoration="underline""#);
    }
    style
}

/// The sixteen colours of the picture's theme; others are named by the program itself.
fn color(color: Color) -> Option<String> {
    const THEME: [&str; 16] = [
        "#3b3f4a", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d5d8df", "#8b909c",
        "#ef8f97", "#b3d89c", "#efd39b", "#8cc8f7", "#d9a0e8", "#83d0d9", "#ffffff",
    ];
    match color {
        Color::Default => None,
        Color::Idx(index @ 0..16) => Some(THEME[usize::from(index)].to_owned()),
        Color::Idx(index @ 16..232) => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let cube = index - 16;
            Some(format!("#{:02x}{:02x}{:02x}", level(cube / 36), level(cube / 6 % 6), level(cube % 6)))
        }
        Color::Idx(index) => Some(format!("#{0:02x}{0:02x}{0:02x}", 8 + 10 * (index - 232))),
        Color::Rgb(red, green, blue) => Some(format!("#{red:02x}{green:02x}{blue:02x}")),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
