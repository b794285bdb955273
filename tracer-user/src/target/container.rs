//! Which container a process runs in, from `/proc/PID/cgroup`.

/// Digits of a container's id.
const ID_DIGITS: usize = 64;

/// The last container id in the text of a `/proc/PID/cgroup`.
///
/// The id is 64 hexadecimal digits at the end of a line, before an optional `.scope` and an optional last component in
/// lower-case letters: OpenTelemetry's rule, which covers cgroup v1 and v2, containerd, CRI-O, Docker and nesting.
pub(crate) fn container_id(cgroup: &str) -> Option<String> {
    cgroup.lines().filter_map(id_of_line).next_back().map(str::to_owned)
}

fn id_of_line(line: &str) -> Option<&str> {
    let line = match line.rsplit_once('/') {
        Some((head, tail)) if is_component(tail) => head,
        _ => line,
    };
    let line = line.strip_suffix(".scope").unwrap_or(line);
    let id = line.get(line.len().checked_sub(ID_DIGITS)?..)?;
    id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(id)
}

/// What a container's init may put below the container's own group, such as `init` or `payload`.
fn is_component(text: &str) -> bool {
    // An id is no such component: it has digits, or else would be 64 letters long.
    !text.is_empty() && text.len() < ID_DIGITS && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn finds_the_id_wherever_runtimes_put_it() {
        for line in [
            format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            format!("4:memory:/docker/{ID}"),
            format!("0::/system.slice/docker-{ID}.scope/init"),
            format!("0::/../../crio-{ID}.scope"),
            format!("12:cpu:/kubepods/burstable/pod0/{ID}\n0::/"),
        ] {
            assert_eq!(container_id(&line).as_deref(), Some(ID), "{line}");
        }
    }

    #[test]
    fn nothing_else_is_an_id() {
        for line in [
            "",
            "0::/",
            "0::/user.slice/user-1000.slice/session-1.scope",
            "4:memory:/process_api/212edf6d601e4d427d875f00acfbf799",
            "0::/é",
        ] {
            assert_eq!(container_id(line), None, "{line}");
        }
        assert_eq!(container_id(&format!("0::/{}", ID.to_uppercase())), None);
    }
}
