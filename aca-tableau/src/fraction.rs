/// Reads a fraction such as "-5/72", or a plain number.
///
/// # Errors
/// What is wrong with the text, in words.
pub(crate) fn parse(text: &str) -> Result<f64, &'static str> {
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    let number = |part: &str| part.trim().parse().ok().filter(|x: &f64| x.is_finite());
    match (number(numerator), number(denominator)) {
        (_, Some(0.0)) => Err("a denominator must not be 0"),
        (Some(numerator), Some(denominator)) => Ok(numerator / denominator),
        _ => Err("give a number or a fraction such as \"1/3\""),
    }
}
