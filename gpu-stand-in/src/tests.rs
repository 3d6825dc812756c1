//! Small kernels, right and wrong.

use crate::block::Launch;
use crate::memory::Memory;
use crate::ptx::Module;

/// Runs a kernel of one block on eight floats, `x`, that may be written or not; returns them.
fn run(threads: u32, body: &str, x: Option<[f32; 8]>) -> Result<[f32; 8], String> {
    let text = format!(
        ".version 9.0\n.shared .align 8 .b8 room[64];\n.visible .entry go(\n.param .u64 go_param_0\n)\n\
         {{\n.reg .b32 %r<9>;\nld.param.u64 %x, [go_param_0];\nmov.u32 %t, %tid.x;\n\
         mul.wide.u32 %at, %t, 4;\nadd.s64 %mine, %x, %at;\ncvt.u32.u64 %place, %at;\n{body}\nret;\n}}\n"
    );
    let mut memory = Memory::default();
    let place = memory.allocate(32).ok_or("no memory")?;
    if let Some(x) = x {
        memory.fill(place, 32)?;
        unsafe { (place as *mut [f32; 8]).write(x) };
    }
    let function = Module::new(&text, |_| 0).function("go")?;
    let params = place.to_le_bytes();
    let (grid, block) = ([1, 1, 1], [threads, 1, 1]);
    let memory_of_launch = &mut memory;
    let launch = Launch {
        function: &function,
        params: &params,
        grid,
        block,
        shared: 0,
        number: 1,
        backwards: false,
        memory: memory_of_launch,
    };
    launch.run()?;
    Ok(unsafe { *(place as *const [f32; 8]) })
}

fn refusal(threads: u32, body: &str, x: Option<[f32; 8]>) -> String {
    run(threads, body, x).expect_err("the kernel should be refused")
}

const ONE_TO_EIGHT: [f32; 8] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];

#[test]
fn threads_compute_each_its_own() {
    let body = "ld.global.f32 %f, [%mine];\nfma.rn.f32 %f, %f, 0f40000000, 0f3F800000;\n\
                setp.lt.u32 %p, %t, 4;\n@!%p bra $end;\nst.global.f32 [%mine], %f;\n$end:";
    let found = run(8, body, Some(ONE_TO_EIGHT));
    assert_eq!(found, Ok([3.0, 5.0, 7.0, 9.0, 5.0, 6.0, 7.0, 8.0]));
}

#[test]
fn warps_shuffle_and_blocks_share() {
    // Segments of eight lanes.
    let shuffle = "ld.global.f32 %f, [%mine];\nmov.b32 %r, %f;\n\
                   shfl.sync.down.b32 %s|%p, %r, 2, 6151, 255;\nst.global.u32 [%mine], %s;";
    let found = run(8, shuffle, Some(ONE_TO_EIGHT));
    assert_eq!(found, Ok([3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 7.0, 8.0]));
    let reverse = "ld.global.f32 %f, [%mine];\nmov.b32 %base, room;\nadd.s32 %own, %base, %place;\n\
                   st.shared.f32 [%own], %f;\nbar.sync 0;\nsub.s32 %other, 28, %place;\n\
                   ld.shared.f32 %f, [%other];\nst.global.f32 [%mine], %f;";
    let found = run(8, reverse, Some(ONE_TO_EIGHT));
    assert_eq!(found, Ok([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]));
    let without = refusal(8, &reverse.replace("bar.sync 0;\n", ""), Some(ONE_TO_EIGHT));
    assert!(without.ends_with("shared memory is read before it is written"), "{without}");
}

#[test]
fn races_are_refused() {
    let shared = "mov.b32 %base, room;\nst.shared.u32 [%base], %t;";
    let text = refusal(2, shared, None);
    assert!(text.ends_with("race: thread 0 stored there since the last barrier"), "{text}");
    let global = "st.global.u32 [%x], %t;";
    let text = refusal(2, global, None);
    assert!(text.ends_with("race: thread 1 of the launch stored there"), "{text}");
    let added = "atom.global.add.f32 %old, [%x], 0f3F800000;";
    assert_eq!(run(8, added, Some([0.0; 8])).map(|x| x[0]), Ok(8.0));
}

#[test]
fn addresses_that_a_gpu_forbids_are_refused() {
    let packs = "ld.global.v4.f32 {%a, %b, %c, %d}, [%x+4];";
    let text = refusal(1, packs, Some(ONE_TO_EIGHT));
    assert!(text.ends_with("is misaligned for 16 bytes"), "{text}");
    let text = refusal(1, "ld.global.f32 %f, [%x+32];", Some(ONE_TO_EIGHT));
    assert!(text.ends_with("are outside the nearest allocation, of 32"), "{text}");
    let text = refusal(1, "ld.global.f32 %f, [%mine];", None);
    assert!(text.ends_with("offset 0 is read before it is written"), "{text}");
}

#[test]
fn threads_that_wait_in_vain_are_refused() {
    let half = "setp.lt.u32 %p, %t, 4;\n@%p bra $end;\n\
                shfl.sync.down.b32 %s|%p, %t, 2, 31, 255;\n$end:";
    let text = refusal(8, half, None);
    assert!(text.ends_with("names a thread that is done"), "{text}");
    let two =
        "setp.lt.u32 %p, %t, 4;\n@%p bra $one;\nbar.sync 0;\nbra $end;\n$one:\nbar.sync 0;\n$end:";
    let text = refusal(8, two, None);
    assert!(text.ends_with("threads of a block meet at two barriers"), "{text}");
}
