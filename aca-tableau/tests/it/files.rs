//! Tableaux from TOML and JSON, and what their refusals say.

use std::fs;

use aca_tableau::{ALL, FileError, IMPLICIT, KVAERNO3, Tableau, TableauDraft, TableauError};
use tempfile::TempDir;

const RALSTON3: &str = r#"name = "ralston3"
order = 3
a = [[], ["1/2"], [0, "3/4"]]
b = ["2/9", "1/3", "4/9"]
c = [0, "1/2", "3/4"]
[[embedded]]
order = 2
b_hat = [0, 1, 0]
"#;

const HERMITE: &str = r#"{
    "name": "heun_hermite", "order": 2, "a": [[], [1]], "b": ["1/2", 0.5], "c": [0, 1],
    "interpolant": {
        "order": 2, "a": [["1/2", "1/2"]], "c": [1], "weights": [[1, "-1/2"], [0, "3/2", -1], [0, -1, 1]]
    }
}"#;

/// The refusal of a text with one part replaced, read from a file of that name.
fn refusal(file: &str, text: &str, (from, to): (&str, &str)) -> String {
    assert!(text.contains(from), "{from}");
    let (folder, text) = (TempDir::new().unwrap(), text.replacen(from, to, 1));
    let path = folder.path().join(file);
    fs::write(&path, &text).unwrap();
    let message = Tableau::from_file(&path).unwrap_err().to_string();
    let start = path.display().to_string();
    let rest = message.strip_prefix(&start).unwrap_or_else(|| panic!("no file in {message}"));
    // The same of a text, without the file.
    let read = if file.ends_with("json") { Tableau::from_json } else { Tableau::from_toml };
    let of_text = read(&text).unwrap_err().to_string();
    assert_eq!(of_text, rest.trim_start_matches([',', ':', ' ']), "{message}");
    format!("{file}{rest}")
}

#[test]
fn every_built_in_comes_back_from_toml_and_json() {
    for tableau in ALL.into_iter().chain(IMPLICIT) {
        for found in [
            Tableau::from_toml(&tableau.to_toml()).unwrap(),
            Tableau::from_json(&tableau.to_json()).unwrap(),
        ] {
            let plain = |t: &Tableau| TableauDraft { interpolant: None, ..t.to_draft() };
            assert_eq!(plain(&found), plain(tableau));
            assert_eq!(found.interpolant().order(), tableau.interpolant().order());
        }
    }
}

#[test]
fn implicit_stages_are_read_from_rows_with_a_diagonal() {
    let text = "name = \"middle\"\norder = 2\na = [[\"1/2\"]]\nb = [1]\nc = [\"1/2\"]\n";
    let middle = Tableau::from_toml(text).unwrap();
    assert!(middle.is_implicit() && middle.diagonal(0) == 0.5);
    assert_eq!(Tableau::from_toml(&KVAERNO3.to_toml()).unwrap(), KVAERNO3);
}

#[test]
fn a_tableau_inside_other_settings_is_checked_too() {
    #[derive(Debug, serde::Serialize, serde::Deserialize)]
    struct Settings {
        rtol: f64,
        method: Tableau,
    }
    let text = toml::to_string(&Settings { rtol: 1e-6, method: KVAERNO3 }).unwrap();
    assert_eq!(toml::from_str::<Settings>(&text).unwrap().method, KVAERNO3);
    let error = toml::from_str::<Settings>(&text.replace("order = 3", "order = 4")).unwrap_err();
    assert!(error.to_string().contains("order 4 condition of tree"), "{error}");
}

#[test]
fn a_refused_order_names_the_field_and_the_highest_order_that_holds() {
    let expected = "r.toml, order: order 4 condition of tree [t t t] fails: sum is 0.229167, must be \
                    0.25; the highest order that holds is 3; claim it, or correct the coefficients";
    assert_eq!(refusal("r.toml", RALSTON3, ("order = 3", "order = 4")), expected);
    let embedded = refusal("r.toml", RALSTON3, ("order = 2", "order = 3"));
    assert!(embedded.starts_with("r.toml, embedded[0].order: order 3 condition"), "{embedded}");
    assert!(embedded.contains("the highest order that holds is 2"), "{embedded}");
    let interpolant = refusal("h.json", HERMITE, ("{\n        \"order\": 2", "{\"order\": 3"));
    let start = "h.json, interpolant.order: order 3 condition";
    assert!(interpolant.starts_with(start), "{interpolant}");
    assert!(interpolant.contains("the highest order that holds is 2"), "{interpolant}");
}

#[test]
fn other_claims_name_their_fields() {
    for (from, to, expected) in [
        ("\"1/2\", \"3/4\"]", "0.5, 0.7]", "r.toml, c[2]: row 2 of a sums to 0.75, but c is 0.7"),
        ("[0, \"3/4\"]]", "[0.75]]", "r.toml: a[2] has 1 entries, must have 2"),
        ("[\"1/2\"], [", "[0.5, 0, 1], [", "r.toml, a[1][2]: a[1][2] is 1; a method that"),
        ("[0, 1, 0]", "[0, 1]", "r.toml: embedded[0].b_hat has 2 entries, must have 3"),
        ("[0, 1, 0]", "[0, inf, 0]", "r.toml: entry 1 of embedded[0].b_hat is inf"),
        ("order = 3", "order = 9", "r.toml, order: order 9 is claimed for b"),
        ("[0, 1, 0]", "['2/9', '1/3', '4/9']", "r.toml, embedded[0].b_hat: the embedded"),
    ] {
        let message = refusal("r.toml", RALSTON3, (from, to));
        assert!(message.starts_with(expected), "{message}");
    }
    for (from, to, expected) in [
        ("[[\"1/2\", \"1/2\"]]", "[[1]]", "h.json: interpolant.a[0] has 1 entries, must have 2"),
        ("[0, -1, 1]]", "[0, -1]]", "h.json, interpolant.weights[2]: the interpolant at s = 1"),
        ("[[\"1/2\", \"1/2\"]]", "[[1, 0]]", "h.json, interpolant.a: the interpolant has no stage"),
    ] {
        let message = refusal("h.json", HERMITE, (from, to));
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn a_text_that_is_no_tableau_is_refused_with_its_line() {
    for (from, to, expected) in [
        ("order = 3", "oder = 3", "r.toml, line 2: unknown field `oder`, expected one of"),
        ("c = [0", "# c = [0", "r.toml, line 1: missing field `c`"),
        ("c = [0", "c = [true", "r.toml, line 5: a coefficient must be a number or a fraction"),
        ("\"3/4\"]]", "\"3/0\"]]", "r.toml: a[2][1] is \"3/0\"; a denominator must not be 0"),
        ("[0, 1, 0]", "[0, 'one', 0]", "r.toml: embedded[0].b_hat[1] is \"one\"; give a number"),
    ] {
        let message = refusal("r.toml", RALSTON3, (from, to));
        assert!(message.starts_with(expected), "{message}");
    }
    for (from, to, expected) in [
        ("\"weights\"", "\"weight\"", "h.json, line 4: unknown field `weight`"),
        ("\"c\": [0, 1]", "\"c\": [0, 1", "h.json, line 3: "),
        ("\"3/2\"", "\"3/a\"", "h.json: interpolant.weights[1][1] is \"3/a\"; give a number"),
    ] {
        let message = refusal("h.json", HERMITE, (from, to));
        assert!(message.starts_with(expected), "{message}");
    }
}

#[test]
fn a_missing_file_is_named_and_its_error_can_be_matched() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("absent.toml");
    let TableauError::File(error) = Tableau::from_file(&path).unwrap_err() else { panic!() };
    assert!(error.to_string().starts_with(&format!("cannot read {}: ", path.display())));
    assert!(matches!(*error, FileError::Unreadable { .. }));
}
