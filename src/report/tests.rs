use super::*;

fn model(role: Role) -> ModelResult {
    ModelResult {
        role,
        architecture: "student_net".to_string(),
        parameters: 105_866,
        mflops: 2.2,
        accuracy: 98.5,
        history: vec![97.0, f64::NAN, 98.5],
        latency_b1_ms: [0.05, 0.06],
        latency_b128_ms: [2.0, 2.5],
        images_per_second: 64_000.0,
        parameter_bytes: 423_464,
        peak_activation_bytes: 9_000_000,
        packed_bytes: None,
        sparsity: None,
        file_bytes: 424_000,
        agreement: 99.0,
        calibration_error: 0.5,
        confusion: vec![vec![9, 1], vec![0, 10]],
    }
}

fn picture() -> Picture {
    Picture { size: [2, 2], channels: 1, pixels: vec![0, 255, 128, 7] }
}

fn extras() -> Extras {
    let mut table = AccuracyTable::new("Generations", &["test images"]);
    table.row("generation <1>", &[97.125]);
    let pictures = vec![Captioned { picture: picture(), caption: "a & b".into() }];
    let gallery = Gallery { title: "Made up".into(), about: "from noise".into(), pictures };
    Extras { tables: vec![table], galleries: vec![gallery], notes: vec!["a note".into()] }
}

fn full() -> Summary {
    let sample = ChangedSample { picture: picture(), index: 3, label: 0, baseline: 1, distilled: 0, teacher: 0 };
    let step = |step| LossPoint {
        step,
        total: 1.0 / step as f64,
        terms: [("hard".to_string(), f64::NAN), ("soft".to_string(), 0.3)].into(),
    };
    Summary {
        command: "run".to_string(),
        config: "data = \"<script>alert(1)</script>\"".to_string(),
        data: DataSummary {
            name: "a & b".to_string(),
            train: 12_000,
            test: 20,
            classes: vec!["x<y".into(), "b".into()],
        },
        models: vec![model(Role::Teacher), model(Role::Distilled), model(Role::Baseline)],
        comparison: Some(Comparison {
            distilled: vec![98.5, 98.6],
            baseline: vec![98.1, 98.3],
            gain: 0.35,
            gain_sd: Some(0.07),
            p_value: 0.09,
            test: "paired t-test over 2 seeds".to_string(),
            verdict: verdict(0.35, 0.09, 2),
        }),
        distillation: (1..4000).map(step).collect(),
        sweep: vec![SweepPoint { temperature: 1.0, accuracy: 98.0 }, SweepPoint { temperature: 10.0, accuracy: 98.2 }],
        ablation: vec![AblationRow {
            name: "both".into(),
            hard_weight: 0.5.into(),
            soft_weight: 0.5.into(),
            accuracy: 98.4,
        }],
        soft_targets: vec![SoftTarget { picture: picture(), label: 0, distributions: vec![(3.0, vec![0.9, 0.1])] }],
        extras: extras(),
        improved: vec![sample.clone()],
        hurt: vec![sample],
        ..Summary::default()
    }
}

#[test]
fn the_verdict_never_celebrates_noise() {
    assert!(verdict(0.07, 0.4, 3).contains("within noise") && !verdict(0.07, 0.4, 3).contains("helped"));
    assert!(verdict(0.8, 0.004, 4).starts_with("Distillation helped: the student gained 0.80 points (p = 0.004)"));
    assert!(verdict(-0.8, 0.0001, 5).starts_with("Distillation hurt: the student lost 0.80 points (p < 0.001)"));
    assert!(verdict(0.5, 0.01, 1).contains("--seeds 5"), "one seed is never the last word");
    assert!(verdict(0.0, 1.0, 3).contains("equally good"));
}

#[test]
fn a_sweep_within_chance_has_no_winner() {
    assert!(spread("temperatures", &[98.81, 98.71, 98.53], 10_000).contains("no one of them is shown to be better"));
    assert!(spread("temperatures", &[98.8, 92.0], 10_000).contains("more than chance explains"));
    assert!(!spread("temperatures", &[f64::NAN, 50.0], 100).contains("NaN"));
}

#[test]
fn every_plot_is_well_formed_and_text_is_escaped() {
    for summary in [full(), Summary::default(), Summary { models: vec![model(Role::Teacher)], ..Summary::default() }] {
        let plots = plots::all(&summary);
        for plot in &plots {
            let svg = plot.standalone();
            roxmltree::Document::parse(&svg).unwrap_or_else(|e| panic!("{}: {e}\n{svg}", plot.name));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{}", plot.name);
        }
        let page = html::page(&summary, &plots);
        assert!(!page.contains("<script") && page.ends_with("</body></html>\n"));
    }
    let page = html::page(&full(), &plots::all(&full()));
    for expected in [
        "a &amp; b",
        "<h2>Generations</h2>",
        "<td>generation &lt;1&gt;</td><td>97.12 %</td>",
        "<h2>Made up</h2>",
        "a note",
        "x&lt;y",
        "98.55 ± 0.07 %",
        "within noise",
        "Soft targets",
        "Most improved",
        "data:image/png;base64,",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
}

#[test]
fn the_report_is_written_and_the_summary_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut summary = full();
    summary.models.iter_mut().for_each(|m| m.history = vec![97.0, 98.5]);
    summary.distillation.truncate(0);
    let page = write(folder.path(), &summary).unwrap();
    assert!(page.exists() && folder.path().join("plots/temperature.svg").exists());
    let read: Summary = serde_json::from_slice(&std::fs::read(folder.path().join("summary.json")).unwrap()).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&summary).unwrap());
}

#[test]
fn the_terminal_table_lines_up() {
    let text = results_text(&full());
    let line =
        |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{text}"));
    assert!(line("accuracy").contains("98.55 ± 0.07 %") && line("parameters").contains("105,866"));
    assert!(line("sweep, T = 10").ends_with("98.20 %") && line("ablation, both").ends_with("98.40 %"));
    let second = |start: &str, cell: &str| line(start).find(cell).map(|at| line(start)[..at].chars().count());
    assert_eq!(second("accuracy", "98.55"), text.lines().next().unwrap().find("distilled"), "{text}");
}
