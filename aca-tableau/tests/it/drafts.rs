use aca_tableau::{DOPRI5, HEUN, HEUN_EULER, RK4, Tableau, TableauDraft};

#[test]
fn full_square_of_a_is_read_like_its_triangle() {
    let mut draft = RK4.to_draft();
    draft.a.iter_mut().for_each(|row| row.resize(4, 0.0));
    assert_eq!(Tableau::new(draft), Ok(RK4));
}

#[test]
fn lower_claim_than_the_weights_satisfy_is_allowed() {
    let draft = TableauDraft { order: 3, ..RK4.to_draft() };
    let modest = Tableau::new(draft).unwrap();
    assert_eq!((modest.order(), modest.satisfied_order()), (3, 4));
}

#[test]
fn embedded_solution_can_be_added_to_a_fixed_method() {
    let embedded = HEUN_EULER.to_draft().embedded;
    let pair = Tableau::new(TableauDraft { embedded, ..HEUN.to_draft() }).unwrap();
    assert_eq!(pair.b_error(), HEUN_EULER.b_error());
}

#[test]
fn fsal_is_lost_with_the_last_bit() {
    let mut draft = DOPRI5.to_draft();
    draft.interpolant = None;
    draft.a[6][0] += 1e-16;
    let nearly = Tableau::new(draft).unwrap();
    assert!(!nearly.is_fsal());
    assert!(nearly.interpolant().first_extra_is_end_slope());
}
