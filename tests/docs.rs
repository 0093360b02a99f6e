//! What the documentation says about methods is what the registry says.

use kdengine::distill::{Entry, Hyperparameter, METHODS};
use kdengine::recipes::RECIPES;
use std::path::Path;

const BEGIN: &str = "<!-- methods: begin (written by `KDENGINE_BLESS=1 cargo test --release --test docs`) -->";
const END: &str = "<!-- methods: end -->";

fn rows() -> String {
    let mut rows = format!(
        "{BEGIN}\n\n| method | family | paper | needs | weight, labels | cost | use it |\n| --- | --- | --- | --- | --- | --- | --- |\n"
    );
    METHODS.iter().for_each(|info| rows += &row(info));
    rows +=
        "\nRecipes arrange several trainings; the weight is that of Hinton's term where no other method is named.\n\n";
    rows += "| recipe | family | paper | needs | weight, labels | cost | use it |\n| --- | --- | --- | --- | --- | --- | --- |\n";
    RECIPES.iter().for_each(|info| rows += &row(info));
    METHODS.iter().for_each(|info| rows += &section(info));
    RECIPES.iter().for_each(|info| rows += &section(info));
    rows + &format!("\n{END}")
}

fn row<Build>(info: &Entry<Build>) -> String {
    format!(
        "| `{}` | {} | {} | {} | {}, {} | {}× | {} |\n",
        info.name,
        info.family.name(),
        info.paper,
        info.needs.describe(),
        info.weight,
        info.hard_weight,
        info.cost,
        info.when
    )
}

fn section<Build>(info: &Entry<Build>) -> String {
    let mut text = format!("\n### {}\n\n{}: {}.\n\n`{}`\n", info.name, info.paper, info.about, info.formula);
    if !info.hyperparameters.is_empty() {
        text += "\n| hyperparameter | default | range | meaning |\n| --- | --- | --- | --- |\n";
    }
    let line =
        |h: &Hyperparameter| format!("| `{}` | {} | {} | {} |\n", h.name, h.default_text(), h.range_text(), h.about);
    text.extend(info.hyperparameters.iter().map(line));
    if !info.traps.is_empty() {
        text += "\n";
    }
    text.extend(info.traps.iter().map(|trap| format!("- {trap}\n")));
    text
}

#[test]
fn the_page_of_methods_is_written_from_the_registry() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/methods.md");
    let (text, rows) = (std::fs::read_to_string(&path).unwrap(), rows());
    let (before, rest) = text.split_once(BEGIN).expect("the table's place is marked");
    let (_, after) = rest.split_once(END).expect("the table's end is marked");
    match std::env::var_os("KDENGINE_BLESS") {
        Some(_) => std::fs::write(&path, format!("{before}{rows}{after}")).unwrap(),
        None => assert!(text.contains(&rows), "docs/methods.md is out of date; run the test with KDENGINE_BLESS=1"),
    }
}
