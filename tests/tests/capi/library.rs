//! The library as a distribution would install it, and programs compiled against it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use satellite_tests::{dir::Dir, has, process::run, satellite};

/// How long a step of building may take.
const BOUND: Duration = Duration::from_secs(300);
/// Where it is installed, as the pkg-config file says.
const PREFIX: &str = "/opt/satellite";
/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Shared,
    Static,
}

/// Another machine, for which the library was built: `SATELLITE_CAPI_CC` is a C compiler that links statically for it, with its
/// arguments, and `SATELLITE_CAPI_RUN` an emulator of it. `cross/capi` sets them, and `SATELLITE_CAPI`.
pub(crate) fn other_machine() -> Option<(String, String)> {
    Some((std::env::var("SATELLITE_CAPI_CC").ok()?, std::env::var("SATELLITE_CAPI_RUN").ok()?))
}

/// All ways of linking that there are.
pub(crate) fn links() -> &'static [Link] {
    if other_machine().is_some() { &[Link::Static] } else { &[Link::Shared, Link::Static] }
}

/// A command line of a compiled program.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let Some((_, emulator)) = other_machine() else { return Command::new(program) };
    let mut command = Command::new(emulator);
    command.arg(program);
    command
}

/// Why these tests show nothing here, if they do not.
pub(crate) fn missing() -> Option<&'static str> {
    ["cc", "pkg-config"].into_iter().find(|program| !has(program))
}

/// Why those show nothing that need programs of this very machine.
pub(crate) fn missing_here(also: &str) -> Option<String> {
    if other_machine().is_some() {
        return Some("the library is for another machine".into());
    }
    let program = missing().or_else(|| (!has(also)).then_some(also))?;
    Some(format!("{program} is missing; tests/install gets it"))
}

/// An installed library.
pub(crate) struct Library {
    dir: Dir,
}

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The folder of what cargo builds: `SATELLITE_CAPI`, where all of it is, or of this package for the running test's profile.
pub(crate) fn built(package: &str, flags: &[&str]) -> PathBuf {
    match std::env::var_os("SATELLITE_CAPI") {
        Some(folder) => folder.into(),
        None => satellite::build_all(package, flags),
    }
}

impl Library {
    /// Installed once for all tests of this program, into a folder of its own by DESTDIR.
    pub(crate) fn get() -> &'static Self {
        static LIBRARY: OnceLock<Library> = OnceLock::new();
        LIBRARY.get_or_init(|| {
            let built = built("satellite-capi", &[]);
            let dir = Dir::new();
            let mut install = Command::new(root().join("satellite-core/capi/install"));
            install.env("DESTDIR", dir.path()).env("PREFIX", PREFIX).env_remove("LIBDIR");
            if other_machine().is_none() {
                install.env_remove("LIBS_PRIVATE");
            }
            run(install.arg("--from").arg(built), BOUND).ok();
            Self { dir }
        })
    }

    /// Its folder of libraries.
    pub(crate) fn lib(&self) -> PathBuf {
        self.dir.path().join(PREFIX.trim_start_matches('/')).join("lib")
    }

    fn flags(&self, what: &[&str]) -> Vec<String> {
        let mut ask = Command::new("pkg-config");
        ask.env("PKG_CONFIG_PATH", self.lib().join("pkgconfig"))
            .env("PKG_CONFIG_SYSROOT_DIR", self.dir.path());
        run(ask.args(what).arg("satellite"), BOUND).ok().split_whitespace().map(String::from).collect()
    }

    /// Compiles `source`, of the repository, to a program in `into`.
    pub(crate) fn compile(&self, source: &str, link: Link, into: &Path) -> PathBuf {
        let source = root().join(source);
        let program = into.join(source.file_stem().unwrap());
        let other = other_machine();
        let compiler = other.as_ref().map_or("cc", |(compiler, _)| compiler);
        let mut words = compiler.split_whitespace();
        let mut cc = Command::new(words.next().unwrap());
        cc.args(words).args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-pthread", "-o"]);
        cc.arg(&program).arg(&source).args(self.flags(&["--cflags"]));
        match link {
            Link::Shared => {
                cc.args(self.flags(&["--libs"])).arg(format!("-Wl,-rpath,{}", self.lib().display()));
            }
            Link::Static if other.is_some() => {
                cc.arg("-static").args(self.flags(&["--libs", "--static"]));
            }
            Link::Static => {
                let libs = self.flags(&["--libs", "--static"]);
                let archive = |flag: String| match flag.as_str() {
                    "-lsatellite" => "-l:libsatellite.a".into(),
                    _ => flag,
                };
                cc.args(libs.into_iter().map(archive));
            }
        }
        run(&mut cc, BOUND).ok();
        program
    }
}

#[test]
fn what_is_installed_is_what_a_distribution_expects() {
    if let Some(why) = missing_here("readelf") {
        return satellite_tests::skip("capi's shared object", &why);
    }
    let (library, dir) = (Library::get(), Dir::new());
    let shared = library.lib().join("libsatellite.so.1");
    assert_eq!(
        std::fs::read_link(library.lib().join("libsatellite.so")).unwrap(),
        Path::new("libsatellite.so.1")
    );
    let read = |arguments: &[&str], file: &Path| {
        run(Command::new(arguments[0]).args(&arguments[1..]).arg(file), BOUND).ok()
    };
    assert!(read(&["readelf", "-d"], &shared).contains("soname: [libsatellite.so.1]"));
    let names = read(&["nm", "-D", "--defined-only"], &shared);
    let names: Vec<_> = names.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(names.len(), 26, "{names:?}");
    let others: Vec<_> = names.iter().filter(|name| !name.starts_with("satellite_")).collect();
    assert!(others.is_empty(), "{others:?} are exported, too");
    let version = library.flags(&["--modversion"]);
    assert_eq!(version, [env!("CARGO_PKG_VERSION")]);
    // The header alone is C++, too.
    if has("c++") {
        let mut compiler = Command::new("c++");
        compiler.args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-x", "c++"]);
        run(compiler.arg(root().join("satellite-core/capi/include/satellite.h")), BOUND).ok();
    }
    // Who forgot an argument is told how it is used.
    for example in ["store", "replicate", "serve"] {
        let source = format!("satellite-core/capi/examples/{example}.c");
        let program = library.compile(&source, Link::Shared, dir.path());
        run(&mut Command::new(program), BOUND).exits(2).complains(&["usage: "]);
    }
}
