//! Names of hosts, when the C library is a part of this program.
//!
//! Such a library would load the modules that the host's `nsswitch.conf` names, which were made for the host's own library:
//! with another release of it this process would be killed by a signal. Files and name servers need no module.

/// Has names of hosts looked up in `/etc/hosts` and by the servers of `/etc/resolv.conf` only, whatever the host says.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub fn look_up_without_modules() {
    unsafe extern "C" {
        fn __nss_configure_lookup(
            database: *const std::ffi::c_char,
            services: *const std::ffi::c_char,
        ) -> std::ffi::c_int;
    }
    // SAFETY: glibc's function of this signature; it takes two strings that end with 0 and keeps neither.
    let status = unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
    if status != 0 {
        tracing::warn!("names of hosts may not be found: {}", std::io::Error::last_os_error());
    }
}

/// The C library is the host's, and so are its modules.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub fn look_up_without_modules() {}
