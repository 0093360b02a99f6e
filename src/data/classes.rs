//! Groupings of classes: another question about the same images, for students that learn another task than their teacher.

use super::Dataset;
use crate::error::{Error, Result};
use crate::suggest::nearest;

/// Which classes of a data set become which classes of another task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Classes {
    /// The data set's own.
    #[default]
    Same,
    /// Even and odd class numbers.
    Parity,
    /// The first half of the classes, and the others.
    Halves,
    /// Class numbers, group by group: `0+6+8/1+7/2+3+4+5+9`.
    Groups(Vec<Vec<usize>>),
}

const NAMES: [&str; 3] = ["same", "parity", "halves"];

impl Classes {
    /// A grouping by name, or class numbers with `+` between the members of a group and `/` between groups.
    ///
    /// # Errors
    /// It is neither.
    pub fn named(name: &str) -> Result<Classes> {
        match name {
            "same" => return Ok(Classes::Same),
            "parity" => return Ok(Classes::Parity),
            "halves" => return Ok(Classes::Halves),
            _ => {}
        }
        let group =
            |group: &str| group.split('+').map(|class| class.trim().parse().ok()).collect::<Option<Vec<usize>>>();
        name.split('/').map(group).collect::<Option<Vec<_>>>().map(Classes::Groups).ok_or_else(|| {
            let hint = nearest(name, &NAMES).map(|n| format!("did you mean `{n}`? ")).unwrap_or_default();
            let known = NAMES.join(", ");
            let reason = format!("there is no grouping `{name}`; {hint}known: {known}, or class numbers as in 0+2/1+3");
            Error::argument("student-classes", reason)
        })
    }

    /// The new class of each of `count` classes.
    ///
    /// # Errors
    /// Groups in which a class is missing, there twice, or unknown.
    pub fn mapping(&self, count: usize) -> Result<Vec<usize>> {
        match self {
            Classes::Same => Ok((0..count).collect()),
            Classes::Parity => Ok((0..count).map(|class| class % 2).collect()),
            Classes::Halves => Ok((0..count).map(|class| usize::from(class >= count.div_ceil(2))).collect()),
            Classes::Groups(groups) => {
                let listed = groups.iter().flatten();
                if let Some(class) = listed.clone().find(|&&class| class >= count) {
                    let reason = format!("names class {class}, but there are {count}, counted from 0");
                    return Err(Error::argument("student-classes", reason));
                }
                let group_of = |class: usize| match listed.clone().filter(|&&c| c == class).count() {
                    1 => Ok(groups.iter().position(|group| group.contains(&class)).unwrap_or(0)),
                    n => Err(Error::argument("student-classes", format!("class {class} is there {n} times, not once"))),
                };
                (0..count).map(group_of).collect()
            }
        }
    }

    /// The same images under their new classes.
    ///
    /// # Errors
    /// As [`Classes::mapping`].
    pub fn of(&self, data: &Dataset) -> Result<Dataset> {
        let mapping = self.mapping(data.classes.len())?;
        if *self == Classes::Same {
            return Ok(data.clone());
        }
        let groups = mapping.iter().max().map_or(0, |last| last + 1);
        let name = |group: usize| match (self, group) {
            (Classes::Parity, 0) => "even".to_string(),
            (Classes::Parity, _) => "odd".to_string(),
            _ => {
                let members = data.classes.iter().zip(&mapping).filter(|(_, g)| **g == group);
                members.map(|(class, _)| class.as_str()).collect::<Vec<_>>().join("+")
            }
        };
        let labels = data.labels.iter().map(|&label| mapping[label as usize] as i32).collect();
        Ok(Dataset { labels, classes: (0..groups).map(name).collect(), ..data.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> Dataset {
        let classes = ["zero", "one", "two", "three", "four"].map(String::from).to_vec();
        Dataset::new("toy", [1, 1, 1], vec![0; 5], vec![4, 3, 2, 1, 0], classes).unwrap()
    }

    #[test]
    fn labels_and_names_follow_the_grouping() {
        let of = |name: &str| Classes::named(name).unwrap().of(&data()).unwrap();
        assert_eq!(
            (of("parity").labels, of("parity").classes),
            (vec![0, 1, 0, 1, 0], vec!["even".into(), "odd".into()])
        );
        assert_eq!(of("halves").classes, ["zero+one+two", "three+four"]);
        assert_eq!(of("1/0+4/2+3").labels, [1, 2, 2, 0, 1]);
        assert_eq!(of("same"), data());
    }

    #[test]
    fn groupings_that_make_no_sense_are_explained() {
        let error = |name: &str| Classes::named(name).and_then(|c| c.of(&data())).unwrap_err().to_string();
        for (name, part) in [
            ("partiy", "did you mean `parity`?"),
            ("0+1/2+3", "class 4 is there 0 times"),
            ("0+1+2/2+3+4", "class 2 is there 2 times"),
            ("0+1+2/3+4+5", "names class 5"),
        ] {
            assert!(error(name).contains(part), "{}", error(name));
        }
    }
}
