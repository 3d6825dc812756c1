use std::collections::BTreeSet;
use std::fmt;

use crate::{Tableau, triangle};

/// A rooted tree: one order condition of a Runge-Kutta method, written in Butcher's brackets.
///
/// `t` is the single node, `[t1 t2 ..]` joins trees to a new root. Children are kept sorted, so
/// that equal trees are equal values.
///
/// # Source
/// Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, II.2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootedTree {
    children: Vec<RootedTree>,
}

/// All rooted trees of `order` nodes, each once: 1, 1, 2, 4, 9, 20, 48, 115, .. of them.
///
/// # Example
/// ```
/// let trees: Vec<_> = aca_tableau::rooted_trees(4).iter().map(|t| t.to_string()).collect();
/// assert_eq!(trees, ["[t t t]", "[[t] t]", "[[t t]]", "[[[t]]]"]);
/// ```
pub fn rooted_trees(order: usize) -> Vec<RootedTree> {
    if order == 0 {
        return Vec::new();
    }
    let mut trees = BTreeSet::from([RootedTree::new(Vec::new())]);
    for _ in 1..order {
        trees = trees.iter().flat_map(RootedTree::grown).collect();
    }
    trees.into_iter().collect()
}

impl RootedTree {
    fn new(mut children: Vec<RootedTree>) -> Self {
        children.sort_by(|x, y| y.cmp(x));
        Self { children }
    }

    /// Every tree with one leaf more; each tree of the next order arises from at least one of this.
    fn grown(&self) -> Vec<Self> {
        let mut wider = self.children.clone();
        wider.push(Self::new(Vec::new()));
        let mut all = vec![Self::new(wider)];
        for (i, child) in self.children.iter().enumerate() {
            all.extend(child.grown().into_iter().map(|taller| {
                let mut children = self.children.clone();
                children[i] = taller;
                Self::new(children)
            }));
        }
        all
    }

    /// The number of nodes.
    pub fn order(&self) -> usize {
        1 + self.children.iter().map(Self::order).sum::<usize>()
    }

    /// The density gamma: the product over all nodes of the size of the subtree that starts there.
    pub fn density(&self) -> u64 {
        self.order() as u64 * self.children.iter().map(Self::density).product::<u64>()
    }

    /// The elementary weight Phi_i of every stage: the order condition is `b . Phi = 1 / gamma`.
    pub fn elementary_weights(&self, tableau: &Tableau) -> Vec<f64> {
        self.stage_weights((tableau.a_flat(), &tableau.diagonal), tableau.stages())
    }

    /// Phi for a flat strictly lower triangle and a diagonal, zero where it ends: the product over children of
    /// `a Phi(child)`.
    pub(crate) fn stage_weights(&self, a: (&[f64], &[f64]), stages: usize) -> Vec<f64> {
        let mut phi = vec![1.0; stages];
        for child in &self.children {
            let inner = child.stage_weights(a, stages);
            for (i, phi) in phi.iter_mut().enumerate() {
                let own = a.1.get(i).map_or(0.0, |diagonal| diagonal * inner[i]);
                *phi *= dot(triangle::row(a.0, i), &inner) + own;
            }
        }
        phi
    }
}

impl RootedTree {
    /// Phi for two methods on the same stages, with every choice of the method whose slope each node but the root is.
    pub(crate) fn mixed_weights(&self, methods: [&Tableau; 2]) -> Vec<Vec<f64>> {
        let mut all = vec![vec![1.0; methods[0].stages()]];
        for child in &self.children {
            let inner = child.mixed_weights(methods);
            let sums = inner.iter().flat_map(|inner| methods.map(|method| method.row_sums(inner)));
            let sums: Vec<Vec<f64>> = sums.collect();
            let times =
                |phi: &[f64], sums: &[f64]| phi.iter().zip(sums).map(|(p, s)| p * s).collect();
            all =
                all.iter().flat_map(|phi| sums.iter().map(move |sums| times(phi, sums))).collect();
        }
        all
    }
}

impl Tableau {
    /// `sum(a_ij x_j)` of every stage.
    fn row_sums(&self, x: &[f64]) -> Vec<f64> {
        let own = |i: usize| self.diagonal.get(i).map_or(0.0, |diagonal| diagonal * x[i]);
        (0..self.stages()).map(|i| dot(triangle::row(self.a_flat(), i), x) + own(i)).collect()
    }
}

impl fmt::Display for RootedTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.children.is_empty() {
            return f.write_str("t");
        }
        let children: Vec<_> = self.children.iter().map(ToString::to_string).collect();
        write!(f, "[{}]", children.join(" "))
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}
