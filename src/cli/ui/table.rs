//! Columns: as wide as their content, cut to the terminal where one column may give way.

use super::{Label, Painter};
use console::{measure_text_width, truncate_str};

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Align {
    /// At its left edge.
    #[default]
    Left,
    /// At its right edge: numbers.
    Right,
}

/// Rows of labelled cells.
#[derive(Debug)]
pub(crate) struct Table {
    painter: Painter,
    headings: Vec<(&'static str, Align)>,
    /// Cells with their widths.
    rows: Vec<Vec<(String, usize)>>,
    /// The column that is cut first when a line does not fit.
    elastic: usize,
}

impl Table {
    /// A table with these columns; the one numbered `elastic` gives way when a line is too long.
    pub(crate) fn new(painter: Painter, headings: &[(&'static str, Align)], elastic: usize) -> Self {
        Self { painter, headings: headings.to_vec(), rows: Vec::new(), elastic }
    }

    /// Adds a row of painted cells, one for each column.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headings.len(), "one cell for each column");
        self.rows.push(cells.into_iter().map(measured).collect());
    }

    /// The table as lines. Columns that are empty in every row are left out. Lines longer than `columns` lose the
    /// end of their elastic cell.
    pub(crate) fn render(&self, columns: Option<usize>) -> String {
        let shown: Vec<usize> = (0..self.headings.len())
            .filter(|&at| self.rows.iter().any(|row| !row[at].0.is_empty()))
            .collect();
        let mut widths: Vec<usize> = self
            .headings
            .iter()
            .enumerate()
            .map(|(at, (heading, _))| {
                let cells = self.rows.iter().map(|row| row[at].1).max().unwrap_or(0);
                cells.max(measure_text_width(heading))
            })
            .collect();
        if let Some(columns) = columns {
            let widest =
                shown.iter().copied().filter(|&at| at != self.elastic && self.headings[at].1 == Align::Left);
            let widest = widest.max_by_key(|&at| widths[at]);
            // What the first cannot give, the widest other text gives.
            let mut gives = vec![(self.elastic, 8)];
            gives.extend(widest.map(|at| (at, 16)));
            // And then all texts, those at the end first: names come first.
            let texts = shown.iter().rev().copied().filter(|&at| self.headings[at].1 == Align::Left);
            gives.extend(texts.map(|at| (at, 10)));
            for (at, least) in gives {
                let total: usize = shown.iter().map(|&at| widths[at] + 2).sum::<usize>().saturating_sub(2);
                let width = &mut widths[at];
                *width = width.saturating_sub(total.saturating_sub(columns)).max(least.min(*width));
            }
        }
        let paint = |heading: &str| measured(self.painter.paint(Label::Heading, heading));
        let headings: Vec<_> = self.headings.iter().map(|(heading, _)| paint(heading)).collect();
        let mut text = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            let mut pending = 0;
            for &at in &shown {
                let (cell, width) = &row[at];
                let (cell, width) = if *width > widths[at] {
                    let cut = truncate_str(cell, widths[at], "…");
                    let width = measure_text_width(&cut);
                    (cut, width)
                } else {
                    (cell.into(), *width)
                };
                let room = widths[at].saturating_sub(width);
                let (before, after) = if self.headings[at].1 == Align::Right { (room, 0) } else { (0, room) };
                // Trailing blanks of a line are never written.
                if cell.is_empty() {
                    pending += before;
                } else {
                    line.extend(std::iter::repeat_n(' ', pending + before));
                    line.push_str(&cell);
                    pending = 0;
                }
                pending += after + 2;
            }
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// A cell with the columns that it takes.
fn measured(cell: String) -> (String, usize) {
    // Most cells are plain: a byte is a column.
    let plain = cell.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    let width = if plain { cell.len() } else { measure_text_width(&cell) };
    (cell, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_and_empty_ones_vanish() {
        let mut table = Table::new(
            Painter::new(false),
            &[("ID", Align::Left), ("N", Align::Right), ("ZONE", Align::Left), ("TITLE", Align::Left)],
            3,
        );
        table.row(vec!["g12".into(), "7".into(), String::new(), "A title that is rather long".into()]);
        table.row(vec!["g1234".into(), "12".into(), String::new(), "短い題".into()]);
        assert_eq!(table.render(Some(24)), "ID      N  TITLE\ng12     7  A title that…\ng1234  12  短い題\n");

        let mut table = Table::new(Painter::new(false), &[("STATE", Align::Left), ("TITLE", Align::Left)], 1);
        table.row(vec!["waiting (it is said at length)".into(), "A title".into()]);
        assert_eq!(table.render(Some(30)), "STATE                  TITLE\nwaiting (it is said …  A title\n");

        let headings =
            [("AGENT", Align::Left), ("STATE", Align::Left), ("TASK", Align::Left), ("COST", Align::Right)];
        let mut table = Table::new(Painter::new(false), &headings, 2);
        let name = "a-name-of-twenty-eight-chars".to_owned();
        table.row(vec![name, "waiting (since an hour)".into(), "Some task".into(), "$123.45".into()]);
        for columns in [48, 50, 60, 70] {
            let text = table.render(Some(columns));
            let most = text.lines().map(measure_text_width).max().unwrap();
            assert!(most <= columns && text.contains("$123.45"), "{columns}:\n{text}");
        }
    }
}
