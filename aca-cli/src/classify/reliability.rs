//! How alike repeated trainings judge the same images.

/// Intraclass correlation of `runs`, each one number for every image: the share of the variance
/// that lies between images rather than between trainings.
///
/// Two-way random effects, absolute agreement, single measurement: ICC(2,1). `None` for less than
/// two runs or two images, or where nothing varies.
///
/// # Source
/// Shrout & Fleiss, "Intraclass correlations: uses in assessing rater reliability", Psychological
/// Bulletin 86 (1979).
pub fn intraclass_correlation(runs: &[Vec<f64>]) -> Option<f64> {
    let (k, n) = (runs.len(), runs.first()?.len());
    if k < 2 || n < 2 {
        return None;
    }
    let (raters, images) = (k as f64, n as f64);
    let grand = runs.iter().flatten().sum::<f64>() / (raters * images);
    let of_run = |run: &Vec<f64>| run.iter().sum::<f64>() / images;
    let of_image = |i: usize| runs.iter().map(|run| run[i]).sum::<f64>() / raters;
    let square = |x: f64| (x - grand).powi(2);
    let total: f64 = runs.iter().flatten().map(|x| square(*x)).sum();
    let between_images = raters * (0..n).map(|i| square(of_image(i))).sum::<f64>();
    let between_runs = images * runs.iter().map(|run| square(of_run(run))).sum::<f64>();
    let rest = total - between_images - between_runs;
    let image = between_images / (images - 1.0);
    let run = between_runs / (raters - 1.0);
    let rest = rest / ((images - 1.0) * (raters - 1.0));
    let correlation =
        (image - rest) / (image + (raters - 1.0) * rest + raters / images * (run - rest));
    correlation.is_finite().then_some(correlation)
}

#[cfg(test)]
mod tests {
    use super::intraclass_correlation;

    /// The example of Shrout and Fleiss: six targets, four judges, ICC(2,1) = 0.29.
    #[test]
    fn the_example_of_the_source_comes_out() {
        let judges = [
            [9.0, 6.0, 8.0, 7.0, 10.0, 6.0],
            [2.0, 1.0, 4.0, 1.0, 5.0, 2.0],
            [5.0, 3.0, 6.0, 2.0, 6.0, 4.0],
            [8.0, 2.0, 8.0, 6.0, 9.0, 7.0],
        ];
        let found = intraclass_correlation(&judges.map(|judge| judge.to_vec()));
        assert!(found.is_some_and(|x| (x - 0.2898).abs() < 5e-4), "{found:?}, expected 0.2898");
    }

    #[test]
    fn runs_that_agree_are_fully_reliable() {
        let run = vec![0.1, 0.9, 0.4];
        let found = intraclass_correlation(&[run.clone(), run]);
        assert!(found.is_some_and(|x| (x - 1.0).abs() < 1e-12), "{found:?}");
    }

    #[test]
    fn one_run_says_nothing() {
        assert_eq!(intraclass_correlation(&[vec![0.1, 0.9]]), None);
    }
}
