use aca_tableau::{RK4, RootedTree, rooted_trees};

fn tree(name: &str) -> RootedTree {
    let order = name.matches('t').count() + name.matches('[').count();
    let trees = rooted_trees(order);
    let found = trees.into_iter().find(|tree| tree.to_string() == name);
    found.unwrap_or_else(|| panic!("no tree {name} of order {order}"))
}

#[test]
fn counts_are_those_of_the_textbook() {
    let counts: Vec<_> = (0..=9).map(|order| rooted_trees(order).len()).collect();
    assert_eq!(counts, [0, 1, 1, 2, 4, 9, 20, 48, 115, 286]); // HNW I, table 2.1 of II.2
}

#[test]
fn trees_of_an_order_are_distinct_and_of_that_order() {
    for order in 1..=8 {
        let trees = rooted_trees(order);
        assert!(trees.windows(2).all(|pair| pair[0] < pair[1]), "order {order}");
        assert!(trees.iter().all(|tree| tree.order() == order), "order {order}");
    }
}

#[test]
fn densities_are_those_of_the_textbook() {
    let known = [("t", 1), ("[t]", 2), ("[t t]", 3), ("[[t]]", 6), ("[[t] t]", 8), ("[[t t]]", 12)];
    for (name, density) in known {
        assert_eq!(tree(name).density(), density, "{name}");
    }
    assert_eq!(tree("[[[[[[[t]]]]]]]").density(), 40320, "the tallest tree has order!");
    assert_eq!(tree("[t t t t t t t]").density(), 8, "the bushy tree has its order");
}

#[test]
fn elementary_weights_of_the_classical_method_are_those_worked_out_by_hand() {
    assert_eq!(tree("[t]").elementary_weights(&RK4), [0.0, 0.5, 0.5, 1.0]);
    assert_eq!(tree("[[t] t]").elementary_weights(&RK4), [0.0, 0.0, 0.125, 0.5]);
    assert_eq!(tree("[[[t]]]").elementary_weights(&RK4), [0.0, 0.0, 0.0, 0.25]);
}
