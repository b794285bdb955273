//! The container image: the binary and nothing else, in the layout of the Open Container Initiative, in one tar archive.
//!
//! In: the release. Out: the archive's bytes, which `podman load`, `skopeo copy oci-archive:…` and `ctr image import` read.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Release;
use super::tree::{Tree, gzip};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Where the binary is in the image.
const ENTRY_POINT: &str = "/usr/bin/outlive";

/// Makes it.
pub(super) fn make(release: &Release) -> Result<Vec<u8>> {
    let mut layout = Tree::default();
    let files = layer(release)?;
    let layer = add_blob(&mut layout, LAYER, gzip(&files)?);
    let configuration = add_document(
        &mut layout,
        CONFIGURATION,
        &json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": [ENTRY_POINT],
                "Env": ["PATH=/usr/bin"],
                "Labels": {
                    "org.opencontainers.image.title": "outlive",
                    "org.opencontainers.image.version": release.version,
                    "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
                },
            },
            "rootfs": { "type": "layers", "diff_ids": [digest(&files)] },
        }),
    )?;
    let mut manifest = add_document(
        &mut layout,
        MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": configuration,
            "layers": [layer],
        }),
    )?;
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": release.version });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    layout.file("index.json", 0o644, text(&index)?);
    layout.file("oci-layout", 0o644, text(&json!({ "imageLayoutVersion": "1.0.0" }))?);
    layout.tar(release.time)
}

/// The image's files, and a place for temporary ones.
fn layer(release: &Release) -> Result<Vec<u8>> {
    let mut files = Tree::default();
    files.file(ENTRY_POINT.trim_start_matches('/'), 0o755, release.binary.clone());
    files.directory("tmp", 0o1777);
    files.tar(release.time)
}

fn add_document(layout: &mut Tree, media_type: &str, document: &Value) -> Result<Value> {
    Ok(add_blob(layout, media_type, text(document)?))
}

/// Adds a blob under its digest, and gives its descriptor.
fn add_blob(layout: &mut Tree, media_type: &str, blob: Vec<u8>) -> Value {
    let digest = digest(&blob);
    let size = blob.len();
    layout.file(&format!("blobs/{}", digest.replace(':', "/")), 0o644, blob);
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let digits: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{}", digits.concat())
}

fn text(document: &Value) -> Result<Vec<u8>> {
    serde_json::to_vec(document).context("cannot write JSON")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Read as _;

    use super::*;

    fn unpacked(archive: &[u8]) -> HashMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let files = archive.entries().expect("entries").map(|entry| {
            let mut entry = entry.expect("an entry");
            let path = entry.path().expect("a path").display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            (path, content)
        });
        files.collect()
    }

    /// Follows a descriptor, and insists on its digest and size.
    fn blob<'a>(files: &'a HashMap<String, Vec<u8>>, descriptor: &Value) -> &'a [u8] {
        let name = descriptor["digest"].as_str().expect("a digest");
        let content = &files[&format!("blobs/{}", name.replace(':', "/"))];
        assert_eq!(digest(content), name);
        assert_eq!(descriptor["size"], content.len());
        content
    }

    #[test]
    fn an_image_depends_on_its_release_only_and_its_digests_lead_to_the_binary() {
        let release = Release { version: "1.2.3", time: 7, binary: b"program".to_vec() };
        let image = make(&release).expect("an image");
        assert_eq!(image, make(&release).expect("an image"));
        let files = unpacked(&image);
        let document = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).expect("JSON") };
        let manifest = document(blob(&files, &document(&files["index.json"])["manifests"][0]));
        let configuration = document(blob(&files, &manifest["config"]));
        let mut layer = Vec::new();
        let mut packed = flate2::read::GzDecoder::new(blob(&files, &manifest["layers"][0]));
        packed.read_to_end(&mut layer).expect("a layer");
        assert_eq!(configuration["rootfs"]["diff_ids"][0], digest(&layer));
        assert_eq!(unpacked(&layer)["usr/bin/outlive"], b"program");
    }
}
