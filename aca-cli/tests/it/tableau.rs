use aca_tableau::{ALL, IMPLICIT, Tableau, aliases};

fn all() -> Vec<&'static Tableau> {
    ALL.into_iter().chain(IMPLICIT).collect()
}

use crate::common::{aca, example};

#[test]
fn list_has_a_row_for_every_method() {
    let text = aca(&["tableau", "list"]).succeeded();
    let rows = text.lines().skip(1).take_while(|line| !line.is_empty());
    let names: Vec<_> = rows.map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, all().iter().map(|tableau| tableau.name()).collect::<Vec<_>>());
}

#[test]
fn list_names_the_methods_without_a_tableau() {
    let text = aca(&["tableau", "list"]).succeeded();
    let (_, others) = text.split_once("\n\n").unwrap();
    for name in ["auto", "alf", "verlet", "yoshida4"] {
        assert!(others.contains(name), "{name} in {others}");
        assert!(aca_core::Method::by_name(name).is_ok());
        let refusal = aca(&["tableau", "show", name]).refused();
        assert!(
            refusal.contains(&format!("{name} is a method, but has no tableau; ")),
            "{refusal}"
        );
    }
}

#[test]
fn list_is_aligned() {
    let text = aca(&["tableau", "list"]).succeeded();
    let column = text.lines().next().unwrap().find("aliases").unwrap();
    for (line, tableau) in text.lines().skip(1).zip(all()) {
        assert_eq!(&line[column..], aliases(tableau).join(", "), "{}", tableau.name());
    }
}

#[test]
fn list_as_json_says_what_the_methods_say() {
    let rows = aca(&["tableau", "list", "--json"]).json();
    assert_eq!(rows.as_array().unwrap().len(), all().len());
    for (row, tableau) in rows.as_array().unwrap().iter().zip(all()) {
        let embedded: Vec<_> = tableau.embedded().iter().map(|embedded| embedded.order).collect();
        let expected = serde_json::json!({
            "name": tableau.name(),
            "order": tableau.order(),
            "embedded_orders": embedded,
            "stages": tableau.stages(),
            "implicit": tableau.is_implicit(),
            "fsal": tableau.is_fsal(),
            "interpolant_order": tableau.interpolant().order(),
            "aliases": aliases(tableau),
        });
        assert_eq!(*row, expected);
    }
}

#[test]
fn show_draws_bosh3_as_butcher_does() {
    let expected = "\
method          bosh3
source          Bogacki and Shampine, A 3(2) pair of Runge-Kutta formulas, 1989
order           3
embedded order  2
interpolant     order 3, no extra stage
stages          4, the last is the next step's first (FSAL)
stability       h times a rate of decay up to 2.513, of an oscillation up to 1.732; estimated from stages 1, 2, 3, 4

        0  |
      1/2  |   1/2
      3/4  |     0  3/4
        1  |   2/9  1/3  4/9
-----------+---------------------
        b  |   2/9  1/3  4/9    0
b_hat (2)  |  7/24  1/4  1/3  1/8
";
    assert_eq!(aca(&["tableau", "show", "bosh3"]).succeeded(), expected);
}

#[test]
fn show_decides_the_stability_of_implicit_methods() {
    let text = aca(&["tableau", "show", "tr-bdf2"]).succeeded();
    let has = |line: &str| {
        text.lines().any(|own| own.split_whitespace().collect::<Vec<_>>().join(" ") == line)
    };
    for line in [
        "stage order 2",
        "stability L-stable, |R| at infinity 0",
        "embedded stability not A-stable, |R| at infinity inf",
        "stiffly accurate yes",
    ] {
        assert!(has(line), "{line} in {text}");
    }
    let text = aca(&["tableau", "show", "kvaerno5"]).succeeded();
    assert!(text.contains("jumps"), "{text}");
    assert!(
        aca(&["tableau", "show", "trapezoid"]).succeeded().contains("A-stable, |R| at infinity 1")
    );
}

#[test]
fn show_prints_the_fractions_of_dopri5() {
    let text = aca(&["tableau", "show", "Dormand-Prince"]).succeeded();
    for fraction in ["44/45", "-25360/2187", "49/176", "-92097/339200", "187/2100"] {
        assert!(text.split_whitespace().any(|word| word == fraction), "{fraction} in {text}");
    }
}

#[test]
fn show_prints_decimals_where_no_small_fraction_exists() {
    let text = aca(&["tableau", "show", "tsit5"]).succeeded();
    let words: Vec<_> = text.split_whitespace().collect();
    assert!(words.contains(&"161/1000") && words.contains(&"-11.748883564062828"), "{text}");
}

#[test]
fn unknown_method_is_refused_with_the_nearest_names() {
    let error = aca(&["tableau", "show", "dopry5"]).refused();
    let text = "error: unknown method \"dopry5\"; did you mean dopri5 (dormand_prince), ";
    assert!(error.starts_with(text), "{error}");
}

#[test]
fn check_accepts_the_example() {
    let expected = "\
method          ralston3
source          Ralston, Runge-Kutta methods with minimum error bounds, 1962; the midpoint rule embedded
order           3
embedded order  2
interpolant     order 3, reads the next step's first stage
stages          3
stability       h times a rate of decay up to 2.513, of an oscillation up to 1.732; estimated from stages 1, 2, 3, 4
Every claim holds.
";
    let text = aca(&["tableau", "check", example().to_str().unwrap()]).succeeded();
    assert_eq!(text, expected);
}
