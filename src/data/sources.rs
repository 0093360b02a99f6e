//! The data sets that are known by name: where they are, and how to recognise them.

use crate::folders;
use std::path::PathBuf;

/// One file of a data set.
#[derive(Clone, Copy, Debug)]
pub struct RemoteFile {
    /// Its name, on the mirrors and here.
    pub name: &'static str,
    /// SHA-256 of the file, in hexadecimal.
    pub sha256: &'static str,
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
    pub files: [RemoteFile; 4],
}

impl RemoteFile {
    /// The name without `.gz`: users may keep the file unpacked.
    pub fn unzipped(&self) -> &'static str {
        self.name.trim_end_matches(".gz")
    }
}

/// The four files of a data set in MNIST's layout, by their checksums.
const fn files(sha256: [&'static str; 4]) -> [RemoteFile; 4] {
    [
        RemoteFile { name: "train-images-idx3-ubyte.gz", sha256: sha256[0] },
        RemoteFile { name: "train-labels-idx1-ubyte.gz", sha256: sha256[1] },
        RemoteFile { name: "t10k-images-idx3-ubyte.gz", sha256: sha256[2] },
        RemoteFile { name: "t10k-labels-idx1-ubyte.gz", sha256: sha256[3] },
    ]
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
        files: files([
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ]),
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
        files: files([
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ]),
    },
    Source {
        name: "kmnist",
        about: "cursive Japanese characters (Clanuwat et al. 2018), 60,000 + 10,000 images of 28×28",
        classes: ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
        mirrors: &["https://codh.rois.ac.jp/kmnist/dataset/kmnist", "http://codh.rois.ac.jp/kmnist/dataset/kmnist"],
        files: files([
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ]),
    },
];

/// The data set with this name.
pub fn source(name: &str) -> Option<&'static Source> {
    SOURCES.iter().find(|source| source.name == name)
}

/// Where data sets are kept: `$KDENGINE_DATA`, else the user's cache folder.
pub fn default_folder() -> PathBuf {
    folders::from_environment("KDENGINE_DATA").or_else(folders::cache).unwrap_or_else(|| PathBuf::from("data"))
}
