//! The data sets that are known by name: where they are, and how to recognise them.

use std::path::PathBuf;

/// How a file is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// SHA-256, in hexadecimal.
    Sha256(&'static str),
    /// MD5, in hexadecimal, where the publisher gives no other.
    Md5(&'static str),
}

/// One file of a data set.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile {
    /// Its name, on the mirrors and here.
    pub name: &'static str,
    /// How it is recognised.
    pub checksum: Checksum,
}

/// A data set that can be downloaded.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The name on the command line.
    pub name: &'static str,
    /// What it is, for listings.
    pub about: &'static str,
    /// The classes' names.
    pub classes: [&'static str; 10],
    /// Folders on the network that hold the files; tried in this order.
    pub mirrors: &'static [&'static str],
    /// The files.
    pub files: &'static [RemoteFile],
}

impl RemoteFile {
    /// The name without `.gz`: users may keep the file unpacked.
    pub fn unzipped(&self) -> &'static str {
        self.name.trim_end_matches(".gz")
    }
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte.gz";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte.gz";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte.gz";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte.gz";

const fn sha256(name: &'static str, checksum: &'static str) -> RemoteFile {
    RemoteFile { name, checksum: Checksum::Sha256(checksum) }
}

const fn md5(name: &'static str, checksum: &'static str) -> RemoteFile {
    RemoteFile { name, checksum: Checksum::Md5(checksum) }
}

/// All known data sets.
pub const SOURCES: &[Source] = &[
    Source {
        name: "mnist",
        about: "handwritten digits (LeCun, Cortes & Burges), 60,000 + 10,000 images of 28×28",
        classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        mirrors: &[
            "https://storage.googleapis.com/cvdf-datasets/mnist",
            "https://ossci-datasets.s3.amazonaws.com/mnist",
        ],
        files: &[
            sha256(TRAIN_IMAGES, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            sha256(TRAIN_LABELS, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            sha256(TEST_IMAGES, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            sha256(TEST_LABELS, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ],
    },
    Source {
        name: "fashion-mnist",
        about: "pictures of clothing (Xiao, Rasul & Vollgraf 2017), 60,000 + 10,000 images of 28×28",
        classes: [
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ],
        mirrors: &[
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        ],
        files: &[
            md5(TRAIN_IMAGES, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            md5(TRAIN_LABELS, "25c81989df183df01b3e8a0aad5dffbe"),
            md5(TEST_IMAGES, "bef4ecab320f06d8554ea6380940ec79"),
            md5(TEST_LABELS, "bb300cfdad3c16e7a12a480ee83cd310"),
        ],
    },
    Source {
        name: "kmnist",
        about: "cursive Japanese characters (Clanuwat et al. 2018), 60,000 + 10,000 images of 28×28",
        classes: ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
        mirrors: &["https://codh.rois.ac.jp/kmnist/dataset/kmnist", "http://codh.rois.ac.jp/kmnist/dataset/kmnist"],
        files: &[
            md5(TRAIN_IMAGES, "bdb82020997e1d708af4cf47b453dcf7"),
            md5(TRAIN_LABELS, "e144d726b3acfaa3e44228e80efcd344"),
            md5(TEST_IMAGES, "5c965bf0a639b31b8f53240b1b52f4d7"),
            md5(TEST_LABELS, "7320c461ea6c1c855c0b718fb2a4b134"),
        ],
    },
];

/// The data set with this name.
pub fn source(name: &str) -> Option<&'static Source> {
    SOURCES.iter().find(|source| source.name == name)
}

/// Where data sets are kept: `$KDENGINE_DATA`, else the user's cache folder.
pub fn default_folder() -> PathBuf {
    let from = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache =
        || from("XDG_CACHE_HOME").or_else(|| from("LOCALAPPDATA")).or_else(|| Some(from("HOME")?.join(".cache")));
    from("KDENGINE_DATA").or_else(|| Some(cache()?.join("kdengine"))).unwrap_or_else(|| PathBuf::from("data"))
}
