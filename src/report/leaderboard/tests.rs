use super::*;

fn standing(name: &str, part: Part, accuracies: &[f64]) -> Standing {
    let student = |(i, &last): (usize, &f64)| Score { seed: i as u64, last, best: last + 1.0, ..Score::default() };
    let students = accuracies.iter().enumerate().map(student).collect();
    Standing { name: name.to_string(), part, students, curve: accuracies.to_vec(), ..Standing::default() }
}

/// Labels 90, 91, 92; hinton +1, +2, +3; two entrants.
fn board() -> Leaderboard {
    let rows = vec![
        standing("hard-labels", Part::Labels, &[90.0, 91.0, 92.0]),
        standing("hinton", Part::Hinton, &[91.0, 93.0, 95.0]),
        standing("at", Part::Entrant, &[90.5, 91.4, 92.6]),
        standing("rkd", Part::Entrant, &[89.0, 92.0, 92.0]),
    ];
    Leaderboard::new(3, rows, vec![Refusal { name: "fsp".to_string(), reason: "channels <differ>".to_string() }])
}

fn row<'a>(board: &'a Leaderboard, name: &str) -> &'a Standing {
    board.rows.iter().find(|row| row.name == name).unwrap()
}

#[test]
fn gains_are_paired_by_seed_and_their_p_values_are_those_of_the_t_test() {
    let board = board();
    // Differences 1, 2, 3: t = 2 / (1 / √3) = 3.4641 with 2 degrees of freedom, p = 1 − t / √(t² + 2) = 0.07418.
    let gain = row(&board, "hinton").over_labels.unwrap();
    assert_eq!((gain.mean, gain.sd), (2.0, Some(1.0)));
    assert!((gain.p.unwrap() - (1.0 - (12.0f64 / 14.0).sqrt())).abs() < 1e-9, "{gain:?}");
    // Differences 0.5, 0.4, 0.6: mean 0.5, sd 0.1, t = 8.6603, p = 1 − √(75 / 77) = 0.01307.
    let gain = row(&board, "at").over_labels.unwrap();
    assert!((gain.p.unwrap() - (1.0 - (75.0f64 / 77.0).sqrt())).abs() < 1e-9, "{gain:?}");
    // Holm: the smallest of three times 3, the next times 2.
    assert!((gain.p_holm.unwrap() - 3.0 * gain.p.unwrap()).abs() < 1e-12);
    let next = row(&board, "hinton").over_labels.unwrap();
    assert!((next.p_holm.unwrap() - 2.0 * next.p.unwrap()).abs() < 1e-12);
    assert!(row(&board, "hard-labels").over_labels.is_none() && row(&board, "hinton").over_hinton.is_none());
    assert!(row(&board, "hard-labels").over_hinton.is_none());
}

#[test]
fn seeds_that_only_one_entrant_has_are_left_out() {
    let mut diverged = standing("dkd", Part::Entrant, &[95.0, 94.0, 93.0]);
    diverged.students.remove(1);
    let board = Leaderboard::new(3, vec![standing("hard-labels", Part::Labels, &[90.0, 10.0, 92.0]), diverged], vec![]);
    assert_eq!(row(&board, "dkd").over_labels.unwrap().mean, 3.0);
}

#[test]
fn entrants_are_compared_with_those_that_were_trained_alike() {
    let trained = |name, part, accuracies: &[f64], training: &str| Standing {
        training: training.to_string(),
        ..standing(name, part, accuracies)
    };
    let rows = vec![
        trained("hard-labels@lr=1", Part::Labels, &[50.0, 51.0], "lr=1"),
        trained("hard-labels@lr=2", Part::Labels, &[80.0, 81.0], "lr=2"),
        trained("at@lr=2", Part::Entrant, &[82.0, 83.0], "lr=2"),
    ];
    let board = Leaderboard::new(2, rows, vec![]);
    assert_eq!(row(&board, "at@lr=2").over_labels.unwrap().mean, 2.0);
}

#[test]
fn the_best_stands_first_in_table_csv_and_plots() {
    let board = board();
    assert_eq!(board.rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["hinton", "at", "hard-labels", "rkd"]);
    let text = leaderboard_text(&board);
    for part in ["93.00 ± 2.00", "94.00 ± 2.00", "+0.50", "0.013", "0.039", "fsp", "channels <differ>", "of 3 methods"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("Better than labels alone after correction: at; worse: none."), "{text}");
    let csv = leaderboard_csv(&board);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[1].starts_with("1,hinton,,hinton,3,93,2,94,2,2,"), "{}", lines[1]);
    assert!(lines.iter().all(|line| line.split(',').count() == lines[0].split(',').count()), "{csv}");
    let plots = plots(&board);
    assert_eq!(plots.len(), 2);
    assert!(plots[0].svg.contains("hinton") && plots.iter().all(|plot| roxmltree::Document::parse(&plot.svg).is_ok()));
}
