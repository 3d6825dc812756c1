//! The driver's functions, as far as candle and this project call them.
#![allow(non_snake_case, reason = "names of the driver")]
#![allow(clippy::missing_safety_doc, reason = "NVIDIA's manual says what each takes")]

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::block::Launch;
use crate::memory::Memory;
use crate::ptx::{Function, Module};

type Handle = *mut c_void;

const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const INVALID_DEVICE: c_int = 101;
const NOT_FOUND: c_int = 500;
const ILLEGAL_ADDRESS: c_int = 700;

#[derive(Default)]
pub struct Gpu {
    pub memory: Memory,
    modules: Vec<Module>,
    functions: Vec<Function>,
    names: HashMap<(usize, String), usize>,
    launches: u32,
    /// What the first forbidden access left behind: nothing works after it.
    error: c_int,
    calls: BTreeMap<String, u64>,
}

static GPU: Mutex<Option<Gpu>> = Mutex::new(None);

/// Counts a call, and does its work.
pub fn with<T>(call: &str, work: impl FnOnce(&mut Gpu) -> T) -> T {
    let mut gpu: MutexGuard<'_, Option<Gpu>> = GPU.lock().unwrap_or_else(PoisonError::into_inner);
    let gpu = gpu.get_or_insert_default();
    *gpu.calls.entry(call.to_owned()).or_default() += 1;
    work(gpu)
}

/// The code of a result, whose message goes to the standard error.
pub fn code(what: &str, result: Result<(), String>) -> c_int {
    let Err(message) = result else { return SUCCESS };
    eprintln!("stand-in for a GPU: {what}: {message}");
    ILLEGAL_ADDRESS
}

unsafe fn give<T>(to: *mut T, value: T) -> c_int {
    // SAFETY: the caller points to a place for a result.
    unsafe { to.write(value) };
    SUCCESS
}

/// Functions that have nothing to do here.
macro_rules! idle {
    ($($name:ident($($ty:ty),*))*) => {$(
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($(_: $ty),*) -> c_int {
            with(stringify!($name), |_| SUCCESS)
        }
    )*};
}

idle! {
    cuDevicePrimaryCtxRelease_v2(c_int)
    cuCtxSetCurrent(Handle)
    cuCtxSynchronize()
    cuStreamDestroy_v2(Handle)
    cuStreamSynchronize(Handle)
    cuStreamWaitEvent(Handle, Handle, c_uint)
    cuEventRecord(Handle, Handle)
    cuEventDestroy_v2(Handle)
    cuEventQuery(Handle)
    cuEventSynchronize(Handle)
    cuModuleUnload(Handle)
    cuMemPoolSetAttribute(Handle, c_int, Handle)
    cuFuncSetAttribute(Handle, c_int, c_int)
}

/// Functions that give one number.
macro_rules! fixed {
    ($($name:ident($to:ident: $result:ty $(, $ty:ty)*) => $value:expr;)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($to: *mut $result $(, _: $ty)*) -> c_int {
            with(stringify!($name), |_| unsafe { give($to, $value) })
        }
    )*};
}

fixed! {
    cuDeviceGetCount(to: c_int) => 1;
    cuDriverGetVersion(to: c_int) => 13_000;
    cuDevicePrimaryCtxRetain(to: Handle, c_int) => 1 as Handle;
    cuCtxGetCurrent(to: Handle) => 1 as Handle;
    cuDeviceGetMemPool(to: Handle, c_int) => 1 as Handle;
    cuStreamCreate(to: Handle, c_uint) => 3 as Handle;
    cuEventCreate(to: Handle, c_uint) => 1 as Handle;
}

#[unsafe(no_mangle)]
pub extern "C" fn cuInit(_: c_uint) -> c_int {
    unsafe extern "C" {
        fn atexit(work: extern "C" fn()) -> c_int;
    }
    if std::env::var_os("STAND_IN_CALLS").is_some() {
        // SAFETY: a function of this library, which stays loaded.
        unsafe { atexit(print_calls) };
    }
    SUCCESS
}

extern "C" fn print_calls() {
    with("", |gpu| {
        let calls = gpu.calls.iter().filter(|(name, _)| !name.is_empty());
        calls.for_each(|(name, count)| eprintln!("{name},{count}"));
    });
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGet(to: *mut c_int, ordinal: c_int) -> c_int {
    if ordinal == 0 { unsafe { give(to, 0) } } else { INVALID_DEVICE }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetAttribute(to: *mut c_int, which: c_int, _: c_int) -> c_int {
    let value = match which {
        1 => 1024, // threads of a block
        10 => 32,  // threads of a warp
        16 => 132, // multiprocessors
        75 => 9,   // compute capability
        115 => 1,  // memory pools
        _ => 0,
    };
    unsafe { give(to, value) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuDeviceGetName(to: *mut c_char, room: c_int, _: c_int) -> c_int {
    let name = c"stand-in".to_bytes_with_nul();
    if name.len() > room as usize {
        return INVALID_VALUE;
    }
    unsafe { std::ptr::copy_nonoverlapping(name.as_ptr().cast(), to, name.len()) };
    SUCCESS
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorName(code: c_int, to: *mut *const c_char) -> c_int {
    let name = match code {
        INVALID_DEVICE => c"CUDA_ERROR_INVALID_DEVICE",
        OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
        NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
        ILLEGAL_ADDRESS => c"CUDA_ERROR_ILLEGAL_ADDRESS",
        _ => c"CUDA_ERROR_INVALID_VALUE",
    };
    unsafe { give(to, name.as_ptr()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuGetErrorString(_: c_int, to: *mut *const c_char) -> c_int {
    unsafe { give(to, c"the stand-in printed why".as_ptr()) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemGetInfo_v2(free: *mut usize, total: *mut usize) -> c_int {
    const ALL: usize = 80 << 30;
    let used = with("cuMemGetInfo", |gpu| gpu.memory.used);
    unsafe { give(free, ALL.saturating_sub(used)) + give(total, ALL) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAlloc_v2(to: *mut u64, bytes: usize) -> c_int {
    match with("cuMemAlloc", |gpu| gpu.memory.allocate(bytes)) {
        Some(address) => unsafe { give(to, address) },
        None => OUT_OF_MEMORY,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemAllocAsync(to: *mut u64, bytes: usize, _: Handle) -> c_int {
    unsafe { cuMemAlloc_v2(to, bytes) }
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFree_v2(address: u64) -> c_int {
    code("free", with("cuMemFree", |gpu| gpu.memory.free(address)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemFreeAsync(address: u64, _: Handle) -> c_int {
    cuMemFree_v2(address)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyHtoDAsync_v2(
    to: u64,
    from: *const u8,
    bytes: usize,
    _: Handle,
) -> c_int {
    let copy = |gpu: &mut Gpu| {
        gpu.memory.fill(to, bytes)?;
        // SAFETY: the bytes lie in an allocation, which the host's do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, to as *mut u8, bytes) };
        Ok(())
    };
    code("copy to the GPU", with("cuMemcpyHtoD", copy))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuMemcpyDtoHAsync_v2(
    to: *mut u8,
    from: u64,
    bytes: usize,
    _: Handle,
) -> c_int {
    with("cuMemcpyDtoH", |gpu| {
        if gpu.error != SUCCESS {
            return gpu.error;
        }
        let checked = gpu.memory.check(from, bytes);
        if checked.is_ok() {
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to, bytes) };
        }
        code("copy from the GPU", checked)
    })
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, _: Handle) -> c_int {
    code("copy", with("cuMemcpyDtoD", |gpu| gpu.memory.copy(to, from, bytes)))
}

#[unsafe(no_mangle)]
pub extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, _: Handle) -> c_int {
    let set = |gpu: &mut Gpu| {
        gpu.memory.fill(to, bytes)?;
        // SAFETY: the bytes lie in an allocation.
        unsafe { (to as *mut u8).write_bytes(value, bytes) };
        Ok(())
    };
    code("setting of memory", with("cuMemsetD8", set))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleLoadData(to: *mut Handle, image: *const c_char) -> c_int {
    // SAFETY: PTX is text that ends with a zero.
    let text = unsafe { CStr::from_ptr(image) }.to_string_lossy();
    let number = with("cuModuleLoadData", |gpu| {
        let module = Module::new(&text, |data| {
            let address = gpu.memory.allocate(data.len()).unwrap_or(0);
            if gpu.memory.fill(address, data.len()).is_ok() {
                // SAFETY: the bytes lie in the new allocation.
                let place = address as *mut u8;
                unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), place, data.len()) };
            }
            address
        });
        gpu.modules.push(module);
        gpu.modules.len()
    });
    unsafe { give(to, number as Handle) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuModuleGetFunction(
    to: *mut Handle,
    module: Handle,
    name: *const c_char,
) -> c_int {
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    let key = (module as usize - 1, name);
    let number = with("cuModuleGetFunction", |gpu| {
        if let Some(known) = gpu.names.get(&key) {
            return Ok(*known);
        }
        gpu.functions.push(gpu.modules[key.0].function(&key.1)?);
        gpu.names.insert(key.clone(), gpu.functions.len());
        Ok::<_, String>(gpu.functions.len())
    });
    match number {
        Ok(number) => unsafe { give(to, number as Handle) },
        Err(message) => {
            eprintln!("stand-in for a GPU: {}: {message}", key.1);
            NOT_FOUND
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn cuLaunchKernel(
    function: Handle,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    _: Handle,
    arguments: *const *const u8,
    _: Handle,
) -> c_int {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    with("cuLaunchKernel", |gpu| {
        if gpu.error != SUCCESS {
            return gpu.error;
        }
        let Gpu { functions, memory, launches, calls, .. } = gpu;
        let function = &functions[function as usize - 1];
        *calls.entry(format!("kernel {}", function.name)).or_default() += 1;
        *launches += 1;
        let threads: c_uint = block.iter().product();
        if grid.contains(&0)
            || grid[1..].iter().any(|n| *n > 65_535)
            || !(1..=1024).contains(&threads)
        {
            let name = &function.name;
            eprintln!("stand-in for a GPU: {name}: no grid may have {grid:?} blocks of {block:?}");
            return INVALID_VALUE;
        }
        let mut params = vec![0; function.param_bytes];
        for (i, (at, bytes)) in function.params.iter().enumerate() {
            // SAFETY: the caller points to each argument, of the size that the kernel declares.
            unsafe {
                let place = params[*at..at + bytes].as_mut_ptr();
                std::ptr::copy_nonoverlapping(*arguments.add(i), place, *bytes);
            }
        }
        let launch = Launch {
            function,
            params: &params,
            grid,
            block,
            shared: shared as usize,
            number: *launches,
            backwards: std::env::var_os("STAND_IN_BACKWARDS").is_some(),
            memory,
        };
        gpu.error = code("launch", launch.run());
        gpu.error
    })
}
