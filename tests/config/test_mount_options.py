"""What -o may say, as mount(8) and fstab(5) say it."""

import re

import pytest

from vbnfs.config.mount_options import parse_mount_options
from vbnfs.config.settings import SETTINGS, Setting
from vbnfs.config.sources import load_config
from vbnfs.errors import UsageError


def test_options_for_the_kernel_and_options_that_say_nothing() -> None:
    """What the kernel understands is handed on in order; what is so anyway, and x-*, is taken and dropped."""
    config = load_config(
        command_line={},
        mount_options=("ro,noatime,_netdev", "nofail,x-systemd.automount,x-foo=bar,nodev,,defaults,noauto,user", ""),
        environ={},
    )
    assert config == load_config(
        command_line={}, mount_options=("noatime,nodev,users,user=me,comment=x=y,X-a,sync,relatime",), environ={}
    )
    assert config.fuse_options == ("noatime", "nodev")
    assert config == load_config(command_line={}, mount_options=("noatime,nodev",), environ={})


def test_options_of_the_kernel_with_values() -> None:
    """SELinux's labels and max_read are handed on: of one name the last one, labels with commas in quotes."""
    texts = ('context="a:b:c:s0:c1,c2",max_read=65536', "fscontext=x:y:z,max_read=4096,rootcontext=a,defcontext=b")
    settings, passed = parse_mount_options(texts)
    assert settings == {}
    assert passed == ('context="a:b:c:s0:c1,c2"', "max_read=4096", "fscontext=x:y:z", "rootcontext=a", "defcontext=b")


@pytest.mark.parametrize("option", ["max_read=x", "max_read=", "context=", 'context="a"b"', "max_read=9999999999"])
def test_values_that_the_kernel_would_not_take(option: str) -> None:
    """A value that cannot be one is refused with an example."""
    with pytest.raises(
        UsageError, match=f"-o {option.partition(chr(61))[0]}=.*: a (number of bytes|label) is wanted, as in"
    ):
        parse_mount_options((option,))


def test_what_holds_anyway() -> None:
    """mount(8)'s file-system-independent options that mean nothing here are taken and dropped."""
    words = (
        "atime,diratime,relatime,norelatime,strictatime,nostrictatime,lazytime,nolazytime,iversion,noiversion,mand,nomand,"
        "async,sync,dirsync,silent,loud,auto,noauto,defaults,group,nogroup,owner,noowner,user,nouser,users,nousers,"
        "_netdev,nofail,default_permissions,nonempty,ro,x-gvfs-show,X-mount.mkdir,comment=x"
    )
    assert parse_mount_options((words,)) == ({}, ())


def test_options_of_libfuse() -> None:
    """What tunes libfuse, or concerns writing, is taken and dropped, and so are names of helpers; a number is one."""
    words = (
        "intr,kernel_cache,auto_cache,big_writes,splice_read,no_splice_move,no_remote_flock,helper=x,uhelper=udisks2"
    )
    numbers = "attr_timeout=1.5,entry_timeout=0,negative_timeout=60,ac_attr_timeout=1,max_background=12"
    assert parse_mount_options((words, numbers, "subtype=vbnfs")) == ({}, ())
    with pytest.raises(UsageError, match="-o attr_timeout=soon: a number is wanted, as in attr_timeout=1"):
        parse_mount_options(("attr_timeout=soon",))


def test_symbolic_links() -> None:
    """`symfollow` is how it is without, and `nosymfollow` is the kernel's; of both the later one counts."""
    assert parse_mount_options(("symfollow",)) == ({}, ())
    assert parse_mount_options(("nosymfollow,symfollow",)) == ({}, ())
    assert parse_mount_options(("symfollow,nosymfollow",)) == ({}, ("nosymfollow",))


@pytest.mark.parametrize("name", ["a b", "", "a\\b", "x" * 201, '"a,b"'])
def test_names_of_a_source(name: str) -> None:
    """A source's name is handed on where the list of mounts can have it as it is."""
    assert parse_mount_options(("fsname=lab:vbn",)) == ({}, ("fsname=lab:vbn",))
    with pytest.raises(UsageError, match=r"-o fsname=.*(a name without blanks|no such mount option)"):
        parse_mount_options((f"fsname={name}",))


@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ("direct_io", "leave it out"),
        ("debug", "write log_level=debug instead"),
        ("subtype=other", "found by their type, fuse.vbnfs"),
        ("modules=subdir", "none of libfuse's modules"),
        ("user_id=0", "gives that to the kernel itself"),
    ],
)
def test_options_that_cannot_be_served(option: str, remedy: str) -> None:
    """An option that asks for what a mount is not is refused by its name, with what to do instead."""
    with pytest.raises(UsageError, match=f"-o {option}: .*{remedy}"):
        parse_mount_options((option,))


def test_rw_is_refused() -> None:
    """Mounting for writing is refused with the reason, also among others."""
    with pytest.raises(UsageError, match="-o rw: the dataset is read-only"):
        parse_mount_options(("noatime,rw",))


@pytest.mark.parametrize(
    "option", ["cachesize=1G", "nonsense", "ro=1", "noatime=yes", "cache--size=1G", "Ro", " ro", "=", "users=x"]
)
def test_unknown_options_are_refused(option: str) -> None:
    """An option that is not known is refused by its own words."""
    with pytest.raises(UsageError, match=re.escape(f"-o {option}: no such mount option")):
        parse_mount_options(("ro," + option,))


@pytest.mark.parametrize(
    ("option", "value"), [("allow_other", True), ("allow_other=true", True), ("allow_other=no", False)]
)
def test_flags_with_and_without_a_value(option: str, value: bool) -> None:
    """A flag needs no value among the mount options, and may have one."""
    assert load_config(command_line={}, mount_options=(option,), environ={}).allow_other is value


@pytest.mark.parametrize("setting", [s for s in SETTINGS if not s.is_flag], ids=lambda setting: setting.name)
def test_settings_that_want_a_value(setting: Setting) -> None:
    """A setting that is no flag is refused without a value, with an example of how it is given."""
    with pytest.raises(UsageError, match=re.escape(f"-o {setting.name}: a value is wanted, as in {setting.name}=")):
        parse_mount_options((setting.name,))


def test_both_spellings() -> None:
    """A setting may be spelled as on the command line, too."""
    assert parse_mount_options(("cache-dir=/a-b,allow-other",)) == ({"cache_dir": "/a-b", "allow_other": "true"}, ())


def test_options_that_contradict_each_other() -> None:
    """Of `noexec` and `exec` the later one counts: for `user` mount(8) puts one before the other."""
    assert parse_mount_options(("noexec,nosuid,nodev", "exec,suid,noexec")) == ({}, ("noexec", "suid", "nodev"))


def test_values_with_an_equals_sign() -> None:
    """Only the first `=` divides; of two values for one setting the later one counts."""
    settings, passed = parse_mount_options(("cache_dir=/a=b", "bucket=x,bucket=y"))
    assert settings == {"cache_dir": "/a=b", "bucket": "y"}
    assert passed == ()
