use std::fs;

use tempfile::TempDir;

use crate::common::{aca_in, example};

/// What `aca tableau check mine.toml` says of the example with one text replaced.
fn refusal(from: &str, to: &str) -> String {
    let folder = TempDir::new().unwrap();
    let text = fs::read_to_string(example()).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(folder.path().join("mine.toml"), text.replacen(from, to, 1)).unwrap();
    aca_in(folder.path(), &["tableau", "check", "mine.toml"]).refused()
}

#[test]
fn wrong_weights_are_refused_with_the_condition_that_fails() {
    assert_eq!(
        refusal("b = [\"2/9\", \"1/3\", \"4/9\"]", "b = [\"1/4\", \"1/4\", \"1/2\"]"),
        "error: mine.toml, order: order 3 condition of tree [t t] fails: sum is 0.34375, must be 0.333333; \
         the highest order that holds is 2; claim it, or correct the coefficients"
    );
}

#[test]
fn overclaimed_order_is_refused() {
    assert_eq!(
        refusal("order = 3", "order = 4"),
        "error: mine.toml, order: order 4 condition of tree [t t t] fails: sum is 0.229167, must be 0.25; \
         the highest order that holds is 3; claim it, or correct the coefficients"
    );
}

#[test]
fn division_by_zero_is_refused_with_its_place() {
    assert_eq!(
        refusal("\"3/4\"]]", "\"3/0\"]]"),
        "error: mine.toml: a[2][1] is \"3/0\"; a denominator must not be 0"
    );
}

#[test]
fn text_that_is_no_number_is_refused_with_its_place() {
    assert_eq!(
        refusal("b_hat = [0, 1, 0]", "b_hat = [0, \"one\", 0]"),
        "error: mine.toml: embedded[0].b_hat[1] is \"one\"; \
         give a number or a fraction such as \"1/3\""
    );
}

#[test]
fn unknown_key_is_refused_with_its_line() {
    assert_eq!(
        refusal("order = 3", "oder = 3"),
        "error: mine.toml, line 7: unknown field `oder`, expected one of \
         `name`, `source`, `order`, `a`, `b`, `c`, `embedded`, `interpolant`"
    );
}

#[test]
fn missing_key_is_refused() {
    assert_eq!(refusal("c = [0", "# c = [0"), "error: mine.toml, line 1: missing field `c`");
}

#[test]
fn coefficient_of_another_type_is_refused() {
    assert_eq!(
        refusal("c = [0", "c = [true"),
        "error: mine.toml, line 10: a coefficient must be a number or a fraction such as \"1/3\""
    );
}

#[test]
fn missing_file_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    for command in [&["tableau", "check"][..], &["tableau", "show"]] {
        let args = [command, &["absent.toml"]].concat();
        let error = aca_in(folder.path(), &args).refused();
        assert!(error.starts_with("error: cannot read absent.toml: "), "{error}");
    }
}

#[test]
fn file_with_an_interpolant_keeps_its_order() {
    let file = "\
name = 'heun_hermite'
order = 2
a = [[], [1]]
b = ['1/2', '1/2']
c = [0, 1]
[interpolant]
order = 2
a = [['1/2', '1/2']]
c = [1]
weights = [[1, '-1/2'], [0, '3/2', -1], [0, -1, 1]]
";
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("mine.toml"), file).unwrap();
    let text = aca_in(folder.path(), &["tableau", "check", "mine.toml"]).succeeded();
    let line = "interpolant  order 2, reads the next step's first stage";
    assert!(text.contains(line), "{text}");
}

#[test]
fn methods_from_json_are_taken_like_those_from_toml() {
    let folder = TempDir::new().unwrap();
    let file = r#"{"name": "mid", "order": 2, "a": [[], ["1/2"]], "b": [0, 1], "c": [0, "1/2"]}"#;
    fs::write(folder.path().join("mid.json"), file).unwrap();
    let text = aca_in(folder.path(), &["tableau", "check", "mid.json"]).succeeded();
    assert!(text.contains("stages       2"), "{text}");
    let words = ["solve", "linear-decay", "--no-plots", "--method", "mid.json", "--h", "0.1"];
    aca_in(folder.path(), &words).succeeded();
    fs::write(folder.path().join("mid.json"), file.replace("2,", "3,")).unwrap();
    let error = aca_in(folder.path(), &["tableau", "check", "mid.json"]).refused();
    assert!(error.starts_with("error: mid.json, order: order 3 condition"), "{error}");
}

#[test]
fn a_path_is_a_file_though_its_name_is_that_of_a_method() {
    let folder = TempDir::new().unwrap();
    fs::copy(example(), folder.path().join("dopri5")).unwrap();
    let shown = |name| aca_in(folder.path(), &["tableau", "show", name]).succeeded();
    assert!(shown("dopri5").contains("order           5"), "{}", shown("dopri5"));
    assert!(!shown("./dopri5").contains("order           5"), "{}", shown("./dopri5"));
}

#[test]
fn a_name_with_control_characters_can_be_drawn() {
    let folder = TempDir::new().unwrap();
    let text = fs::read_to_string(example()).unwrap();
    let (start, end) = text.split_once("name = \"").unwrap();
    fs::write(folder.path().join("mine.toml"), format!("{start}name = \"\\u0007{end}")).unwrap();
    aca_in(folder.path(), &["solve", "linear-decay", "--method", "mine.toml"]).succeeded();
}

#[test]
fn a_method_that_no_solve_takes_is_said_to_be_one() {
    let folder = TempDir::new().unwrap();
    let text = "name = \"back\"\norder = 1\na = [[], [-0.5]]\nb = [1, 0]\nc = [0, -0.5]\n";
    fs::write(folder.path().join("back.toml"), text).unwrap();
    let shown = aca_in(folder.path(), &["tableau", "check", "back.toml"]).succeeded();
    assert!(shown.contains("a stage at c = -0.5 lies outside its step"), "{shown}");
}
