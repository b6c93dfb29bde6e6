"""`vbnfs site-cache`: what it writes, and what it refuses. tests/scenarios/site has it run."""

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.fixtures_mount import run_vbnfs
from vbnfs.cli.main import cli


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["site-cache", *map(str, words)], prog_name="vbnfs")


def test_the_dataset_at_aws() -> None:
    """Without options it stands before the dataset's bucket, by checked TLS, for this machine alone."""
    text = run("nginx").output
    host = "visual-behavior-neuropixels-data.s3.us-west-2.amazonaws.com"
    for line in (
        *(f"server {host}:443;", f"proxy_set_header Host {host};", f"proxy_ssl_name {host};", "proxy_ssl_verify on;"),
        *("listen 127.0.0.1:8090;", "allow 10.0.0.0/8;", "deny all;", "slice 1024k;", "proxy_pass https://bucket/;"),
        *("keys_zone=slices:22m", "max_size=102400m min_free=10240m"),
    ):
        assert line in text
    assert "8.8.8.8" in run("nginx", "--allow", "8.8.8.8").output


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--slice", "300K"], "a multiple of 256K is wanted"),
        (["--slice", "0"], "a multiple of 256K is wanted"),
        (["--size", "1M"], "at least 64 slices"),
        (["--size", "much"], "a size such as 200G"),
        (["--listen", "a;b:8090"], "nginx's configuration cannot have ';'"),
        (["--listen", "10.1.2.3"], "10.1.2.3: an address and a port are wanted"),
        (["--listen", ":8090"], ":8090: an address and a port are wanted"),
        (["--listen", "10.1.2.3:65536"], "10.1.2.3:65536: an address and a port are wanted"),
        (["--allow", "10.0.0.0/8; deny"], "a network such as 10.1.0.0/16 is wanted"),
        (["--allow", "10.1.0.0/33"], "a network such as 10.1.0.0/16 is wanted"),
        (["--allow", "10.1.2.3/16"], "10.1.2.3/16 has host bits set"),
        (["--directory", "slices"], "slices: a whole path is wanted"),
        (["--directory", "/x/$host"], "nginx's configuration cannot have '$'"),
    ],
)
def test_what_nginx_could_not_take(words: list[str], reason: str) -> None:
    """What would not be one value of a directive, or would not hold whole blocks, is refused by its option's name."""
    done = run("nginx", *words)
    assert done.exit_code != 0
    assert reason in done.output + str(done.exception)
    assert "worker_processes" not in done.output


def test_metrics() -> None:
    """Without the option nothing is logged; with it each slice is, to an address of this machine's own alone."""
    plain, counted = run("nginx").output, run("nginx", "--metrics", "9465").output
    assert "access_log off;" in plain
    assert "stub_status;" in plain
    assert "access_log syslog:server=127.0.0.1:9465,nohostname,tag=vbnfs slices if=" in counted
    assert "proxy_pass http://127.0.0.1:9465/metrics;" in counted
    done = run("nginx", "--metrics", "10.1.2.3:9465")
    assert done.exit_code == 2
    assert "at no address but this machine's own" in done.output


def test_traffic_server(tmp_path: Path) -> None:
    """Its files name each other by their folder, and stand before the dataset's bucket, by checked TLS."""
    done = run("trafficserver", tmp_path / "site", "--allow", "10.1.0.0/16", "--size", "1G", "--slice", "512K")
    files = {Path(name).name: Path(name).read_text() for name in done.output.split()}
    bucket = "visual-behavior-neuropixels-data"
    assert f"map /{bucket}/ https://{bucket}.s3.us-west-2.amazonaws.com/ " in files["remap.config"]
    assert "--blockbytes=524288" in files["remap.config"]
    assert f"sysconfdir: {tmp_path / 'site'}\n" in files["runroot.yaml"]
    assert files["storage.config"] == f"/var/cache/vbnfs-site-cache {1 << 30}\n"
    assert "      - 10.1.0.0/16\n" in files["ip_allow.yaml"]
    assert "verify.server.policy STRING ENFORCED" in files["records.config"]
    for words in ([tmp_path / "site", "--directory", "/a b"], [tmp_path / "a b"]):
        refused = run("trafficserver", *words)
        assert "Traffic Server's configuration cannot have ' '" in str(refused.exception)


def test_units_and_compose(tmp_path: Path) -> None:
    """Units name nginx and its configuration; a timer has S3's addresses looked up again, as a container has."""
    done = run("units", tmp_path / "units", "--nginx", "/opt/nginx", "--vbnfs", "/opt/vbnfs")
    names = ["-metrics.service", ".service", "-reload.service", "-reload.timer"]
    assert done.output.split() == [str(tmp_path / "units" / f"vbnfs-site-cache{name}") for name in names]
    counting, service = (Path(name).read_text() for name in done.output.split()[:2])
    assert "ExecStart=/opt/nginx -c /etc/vbnfs-site-cache.conf" in service
    counts = (
        "ExecStart=/opt/vbnfs site-cache metrics --listen 127.0.0.1:9465 --directory /var/cache/vbnfs-site-cache\n"
    )
    assert counts in counting
    assert "ReadWritePaths" not in service
    assert "kill -HUP 1" in run("compose").output
    assert "slices:/var/cache/vbnfs-site-cache\n" in run("compose").output
    (tmp_path / "file").write_text("")
    assert "Not a directory" in str(run("units", tmp_path / "file" / "x").exception)


def test_another_folder(tmp_path: Path) -> None:
    """Units, also Traffic Server's, and the compose file have the configuration's folder; metrics its address."""
    words = ["--directory", "/data/50%"]
    run("units", tmp_path / "units", *words, "--metrics", "9999")
    run("trafficserver", tmp_path / "site", *words)
    service = "vbnfs-site-cache.service"
    for text in ((tmp_path / "units" / service).read_text(), (tmp_path / "site" / service).read_text()):
        assert "ReadWritePaths=-/data/50%%\n" in text
    counting = (tmp_path / "units" / "vbnfs-site-cache-metrics.service").read_text()
    assert "--listen 127.0.0.1:9999 --directory /data/50%%\n" in counting
    text = run("compose", *words).output
    assert "- /data/50%:/data/50%\n" in text
    assert "slices" not in text


@pytest.mark.parametrize(
    ("directory", "reason"),
    [
        ("/data/a b", "systemd's configuration cannot have ' '"),
        ("data", "a whole path is wanted"),
    ],
)
def test_folders_that_no_unit_can_have(tmp_path: Path, directory: str, reason: str) -> None:
    """What a unit cannot name is refused before anything is written."""
    for words in (["units"], ["trafficserver"]):
        done = run(*words, tmp_path / "to", "--directory", directory)
        assert done.exit_code != 0
        assert reason.replace("systemd", "Traffic Server" if words == ["trafficserver"] else "systemd") in (
            done.output + str(done.exception)
        )
        assert not (tmp_path / "to").exists()


def test_folders_that_no_unit_sees(tmp_path: Path) -> None:
    """What a unit hides from its program is refused; Traffic Server gets no unit then, and says so."""
    for directory, hidden in (("/home/me/slices", "/home"), ("/tmp", "/tmp")):
        why = f"the unit does not see what is in {hidden}"
        done = run("units", tmp_path / "units", "--directory", directory)
        assert f"{directory}: {why}; choose another folder" in str(done.exception)
        done = run("trafficserver", tmp_path / "site", "--directory", directory)
        assert (done.exit_code, done.stderr) == (
            0,
            f"vbnfs: no unit is written, for --directory {directory}: {why}\n",
        )
        assert directory in (tmp_path / "site/storage.config").read_text()
        assert not (tmp_path / "site/vbnfs-site-cache.service").exists()


def test_metrics_of_an_address_that_is_taken() -> None:
    """Where another program listens, the command ends and says which option is to be another one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        done = run_vbnfs("site-cache", "metrics", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 1
    assert "Address already in use; choose another --listen" in done.stderr
    assert "docs/troubleshooting.md" in done.stderr


def test_slices_that_traffic_server_does_not_take(tmp_path: Path) -> None:
    """It is said before anything is written."""
    done = run("trafficserver", tmp_path / "site", "--slice", "129M")
    assert "Traffic Server's slices have 128M at the most" in str(done.exception)
    assert not (tmp_path / "site").exists()
