"""Clips with an awkward clock, track or picture, written by ffmpeg into one folder: what broke players and earlier versions."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

X264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "32", "-g", "25", "-bf", "2", "-pix_fmt", "yuv420p"]
AAC = ["-c:a", "aac", "-b:a", "32k"]


def video(seconds: float, source: str = "testsrc2", size: str = "112x112") -> list[str]:
    return ["-f", "lavfi", "-i", f"{source}=size={size}:rate=25:duration={seconds}"]


def noise(seconds: float, seed: int = 1, rate: int = 16_000) -> list[str]:
    return ["-f", "lavfi", "-i", f"anoisesrc=d={seconds}:c=pink:r={rate}:a=0.4:seed={seed}"]


def tone(seconds: float, hertz: int = 300, rate: int = 16_000) -> list[str]:
    return ["-f", "lavfi", "-i", f"sine=f={hertz}:d={seconds}:r={rate}"]


def ffmpeg(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", "-threads", "1", *map(str, arguments)], check=True, capture_output=True)


def join(target: Path, *files: Path) -> None:
    target.write_bytes(b"".join(file.read_bytes() for file in files))


def write_cases(d: Path) -> None:
    """Fills the empty folder `d`; the names say what is special."""
    _clocks(d)
    _lengths(d)
    _damaged_rates(d)
    _edit_lists(d)
    _pictures(d)
    _stills(d)
    _tracks(d)


def _clocks(d: Path) -> None:
    ffmpeg(*video(4), *noise(4), *X264, *AAC, d / "a.ts")
    ffmpeg(*video(4, "smptebars"), *noise(4, 2), *X264, *AAC, d / "b.ts")
    join(d / "cat_reset.ts", d / "a.ts", d / "b.ts")
    ffmpeg("-i", d / "b.ts", "-c", "copy", "-output_ts_offset", "600", d / "b600.ts")
    join(d / "jump.ts", d / "a.ts", d / "b600.ts")
    for suffix in ("mkv", "mp4", "flv"):
        ffmpeg("-i", d / "jump.ts", "-c", "copy", "-copyts", d / f"jump.{suffix}")
    ffmpeg(*video(4), *noise(4), *X264, *AAC, d / "av.mp4")
    ffmpeg("-i", d / "av.mp4", "-c", "copy", "-output_ts_offset", "95440", d / "wrap.ts")
    ffmpeg("-i", d / "av.mp4", "-c", "copy", "-output_ts_offset", "-2", "-avoid_negative_ts", "disabled", d / "negative.mkv")
    ffmpeg("-i", d / "av.mp4", "-c", "copy", "-output_ts_offset", "30", d / "offset.mkv")
    for name, source, seed in (("p1", "testsrc2", 1), ("p2", "smptebars", 2)):
        ffmpeg(*video(4, source), *noise(4, seed), "-c:v", "mpeg2video", "-c:a", "mp2", "-f", "vob", d / f"{name}.mpg")
        ffmpeg(*video(2, source), *noise(2, seed), "-c:v", "libtheora", "-c:a", "libvorbis", d / f"{name}.ogv")
    join(d / "cat_reset.mpg", d / "p1.mpg", d / "p2.mpg")
    join(d / "cat_reset.ogv", d / "p1.ogv", d / "p2.ogv")
    ffmpeg(*video(4, "smptebars"), *noise(4, 2), *X264, *AAC, d / "bars.mp4")
    for suffix in ("flv", "mov", "mkv", "avi", "wmv"):
        codecs = ["-c:v", "wmv2", "-c:a", "wmav2"] if suffix == "wmv" else ["-c", "copy"]
        for name in ("av", "bars"):
            ffmpeg("-i", d / f"{name}.mp4", *codecs, d / f"{name}.{suffix}")
        join(d / f"joined.{suffix}", d / f"av.{suffix}", d / f"bars.{suffix}")
    join(d / "joined.mp4", d / "av.mp4", d / "bars.mp4")
    join(d / "three.flv", d / "av.flv", d / "bars.flv", d / "av.flv")
    (d / "damaged_part.flv").write_bytes((d / "av.flv").read_bytes() + (d / "bars.flv").read_bytes()[:20])
    ffmpeg("-i", d / "av.mp4", "-c", "copy", d / "plain.flv")
    data, at = bytearray((d / "plain.flv").read_bytes()), 13
    for _ in range(60):  # the upper byte of one tag's time stamp: 16,777 s
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
    data[at + 7] = 1
    (d / "one_damaged_stamp.flv").write_bytes(data)


def _lengths(d: Path) -> None:
    ffmpeg(*noise(2), d / "w.wav")
    data = bytearray((d / "w.wav").read_bytes())
    (d / "cut.wav").write_bytes(data[: len(data) // 2])
    at = data.find(b"data")
    data[at + 4 : at + 8] = data[4:8] = bytes(4)
    (d / "unfinished.wav").write_bytes(data)
    quiet = "anoisesrc=d=20:c=pink:r=44100:a=0.4:seed=7,volume='if(lt(t,7),0,1)':eval=frame"
    ffmpeg("-f", "lavfi", "-i", quiet, "-c:a", "aac", "-b:a", "64k", d / "quiet_first.aac")
    for seed in (1, 2):
        ffmpeg(*noise(3, seed), "-c:a", "libopus", "-b:a", "24k", d / f"o{seed}.opus")
    join(d / "chained.opus", d / "o1.opus", d / "o2.opus")
    for suffix, codec in (("ogg", "libvorbis"), ("oga", "flac")):
        ffmpeg(*tone(3, 440, 44_100), "-c:a", codec, d / f"r1.{suffix}")
        ffmpeg(*tone(3, 880, 22_050), "-c:a", codec, d / f"r2.{suffix}")
        join(d / f"other_rate.{suffix}", d / f"r1.{suffix}", d / f"r2.{suffix}")
    for name, rate, hertz in (("r1", 44_100, 440), ("r2", 22_050, 880)):
        ffmpeg(*tone(3, hertz, rate), "-c:a", "aac", d / f"{name}.aac")
    join(d / "other_rate.aac", d / "r1.aac", d / "r2.aac")
    join(d / "other_rates.aac", d / "r2.aac", d / "r1.aac", d / "r2.aac")
    ffmpeg(*noise(2, rate=48_000), "-c:a", "adpcm_ima_wav", d / "adpcm.wav")
    ffmpeg(*noise(2), "-c:a", "pcm_s64le", d / "w64.mka")
    ffmpeg(*noise(6, rate=96_000), "-frame_size", "4608", d / "whole.flac")
    data = (d / "whole.flac").read_bytes()
    (d / "headless.flac").write_bytes(data[len(data) // 3 :])
    ffmpeg(*noise(2), "-af", "pan=stereo|c0=c0|c1=-1*c0", d / "opposite.wav")
    ffmpeg(*noise(2, 2), d / "w2.wav")
    join(d / "joined.wav", d / "w.wav", d / "w2.wav")
    for suffix in ("aiff", "w64"):
        ffmpeg("-i", d / "w.wav", d / f"w.{suffix}")
        ffmpeg("-i", d / "w2.wav", d / f"w2.{suffix}")
        join(d / f"joined.{suffix}", d / f"w.{suffix}", d / f"w2.{suffix}")
    srt = "1\n00:00:01,000 --> 00:00:02,000\nhello\n\n2\n00:00:55,000 --> 00:01:00,000\nend\n"
    (d / "long.srt").write_text(srt)
    ffmpeg("-i", d / "av.mp4", "-i", d / "long.srt", "-c", "copy", "-c:s", "srt", d / "long_subtitle.mkv")
    (d / "hls").mkdir()
    ffmpeg("-i", d / "av.mp4", "-c", "copy", "-hls_time", "2", "-hls_list_size", "0", "-hls_flags", "omit_endlist", d / "hls" / "open.m3u8")
    for name, other in (("itself", "itself.m3u8"), ("nested", "file:live.m3u8")):
        (d / "hls" / f"{name}.m3u8").write_text(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\n{other}\n")
    (d / "hls" / "live.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nopen.m3u8\n")
    (d / "hls" / "gone.m3u8").write_text("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nnot_there.m3u8\n")
    for name, inputs in (("v", ["-map", "0:v"]), ("a", ["-map", "0:a"])):  # picture and sound in playlists of their own
        ffmpeg("-i", d / "av.mp4", *inputs, "-c", "copy", "-hls_time", "2", "-hls_flags", "omit_endlist", d / "hls" / f"{name}.m3u8")
    rendition = '#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="s",NAME="s",DEFAULT=YES,URI="a.m3u8"'
    (d / "hls" / "apart.m3u8").write_text(f'#EXTM3U\n{rendition}\n#EXT-X-STREAM-INF:BANDWIDTH=100000,AUDIO="s"\nv.m3u8\n')


def _damaged_rates(d: Path) -> None:
    """A changed byte of a header makes every picture stay for many minutes, for ten seconds, or for half of its time."""
    ffmpeg("-i", d / "av.mp4", "-c:v", "mpeg4", "-c:a", "copy", d / "rate.avi")
    ffmpeg("-i", d / "rate.avi", "-an", "-c", "copy", d / "silent_rate.avi")
    for name in ("rate", "silent_rate"):
        data = (d / f"{name}.avi").read_bytes()
        at = data.find(b"strh") + 28  # dwScale, dwRate
        for kind, scale, rate in (("minutes", 600, 1), ("millennia", 0x7FFFFFFF, 1), ("slides", 10, 1), ("half", 1, 50)):
            (d / f"{name}_{kind}.avi").write_bytes(data[:at] + struct.pack("<II", scale, rate) + data[at + 8 :])
    kiosk = ["-vf", "setpts=N*600/TB", "-c:v", "libx264", "-bf", "0", "-fps_mode", "vfr", "-video_track_timescale", "1000"]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=112x112:rate=1:duration=6", *kiosk, d / "kiosk.mp4")
    data = bytearray((d / "av.mp4").read_bytes())
    data[data.find(b"stts") + 17] = 0xFF  # 16 million ticks more a picture
    (d / "slow.mp4").write_bytes(data)

    data = bytearray((d / "av.mp4").read_bytes())
    scale = data.find(b"mdhd", data.find(b"mdhd") + 1) + 16
    data[scale : scale + 4] = struct.pack(">I", 2 * 16_000)
    (d / "fast_audio.mp4").write_bytes(data)

    data = bytearray((d / "av.mp4").read_bytes())
    scale = data.find(b"mdhd") + 16
    data[scale : scale + 4] = struct.pack(">I", 2 * 12_800)
    (d / "fast_video.mp4").write_bytes(data)

    one_fragment = ["-g", "250", "-movflags", "frag_keyframe+empty_moov+default_base_moof"]
    ffmpeg(*video(4), *noise(4), "-c:v", "libx264", "-preset", "veryfast", *one_fragment, *AAC, d / "fragmented.mp4")
    data = bytearray((d / "fragmented.mp4").read_bytes())
    for match in re.finditer(b"tfhd", data):
        at = match.start()
        if data[at + 11] == 1 and data[at + 7] & 8:  # default_sample_duration of the video track
            data[at + 12 : at + 16] = struct.pack(">I", 12_800 * 600)
    (d / "slow_fragments.mp4").write_bytes(data)
    ffmpeg(*noise(2), d / "w.caf")
    data = bytearray((d / "w.caf").read_bytes())
    at = data.find(b"desc") + 12 + 20  # mFramesPerPacket
    data[at : at + 4] = struct.pack(">I", 12_289)
    (d / "long_packets.caf").write_bytes(data)


def _pictures(d: Path) -> None:
    data = (d / "av.mp4").read_bytes()
    at, one = data.find(b"tkhd") + 44, 1 << 16
    for name, (a, dd, x, y) in {"hflip": (-1, 1, 112, 0), "vflip": (1, -1, 0, 112)}.items():
        matrix = struct.pack(">9i", a * one, 0, 0, 0, dd * one, 0, x * one, y * one, 1 << 30)
        (d / f"matrix_{name}.mp4").write_bytes(data[:at] + matrix + data[at + 36 :])
    for source in ("av", "silent"):
        if source == "silent":
            ffmpeg("-i", d / "av.mp4", "-an", "-c", "copy", d / "silent.mp4")
        _without_sizes(d / f"{source}.mp4", d / f"{source}_no_size.mp4", decodable=True)
        _without_sizes(d / f"{source}.mp4", d / f"{source}_no_picture.mp4", decodable=False)
    ffmpeg(*video(2), "-vf", "setsar=2/1", *X264, d / "anamorphic.mp4")
    pick = "select='eq(n,0)+eq(n,25)+eq(n,50)+eq(n,75)+eq(n,250)'"
    slides = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "32", "-bf", "0", "-c:a", "aac", "-b:a", "16k"]
    ffmpeg(*video(20), *noise(20, 7), "-vf", pick, "-fps_mode", "vfr", *slides, d / "slides.mp4")
    few = "select='eq(n,0)+eq(n,10)+eq(n,100)'"
    ffmpeg(*video(8), *noise(8, 7), "-vf", few, "-fps_mode", "vfr", *slides, d / "three_slides.mp4")
    ffmpeg(*video(8), *noise(8, 7), "-vf", "select='eq(n,0)+eq(n,125)'", "-fps_mode", "vfr", *slides, d / "two_slides.mp4")
    live = ["-c:v", "libvpx", "-b:v", "100k", "-fps_mode", "vfr", "-c:a", "libopus", "-b:a", "16k", "-f", "webm"]
    with (d / "live.webm").open("wb") as file:
        command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(d / "slides.mp4"), *live, "pipe:1"]
        subprocess.run(command, stdout=file, check=True)
    ffmpeg(*video(2, size="224x112"), *noise(2), *X264, *AAC, d / "wide.ts")
    join(d / "size_change.ts", d / "a.ts", d / "wide.ts")
    ffmpeg("-i", d / "b.ts", "-c", "copy", "-copyinkf", "-ss", "1.5", d / "no_key.ts")


def _edit_lists(d: Path) -> None:
    """Copies of av.mp4 (time scales: movie 1000, video 12,800, audio 16,000) that play pieces of it: (seconds, from second) each."""
    for name, pieces in {
        "left_out": [(1, 0), (1, 3)],
        "twice": [(2, 0), (2, 0)],
        "halves_swapped": [(2, 2), (2, 0)],
        "late_start": [(2, 1.36)],
    }.items():
        data = (d / "av.mp4").read_bytes()
        for track, scale in ((0, 12_800), (1, 16_000)):
            at = -1
            for _ in range(track + 1):
                at = data.find(b"edts", at + 1)
            first = int.from_bytes(data[at + 24 : at + 28], "big")  # what the encoder put before the first picture or sample
            entries = b"".join(struct.pack(">IiI", round(1000 * s), first + round(scale * start), 1 << 16) for s, start in pieces)
            box = struct.pack(">I4sI4sII", 24 + len(entries), b"edts", 16 + len(entries), b"elst", 0, len(pieces)) + entries
            grown = bytearray(data[: at - 4] + box + data[at + 32 :])
            for parent in (data.find(b"moov") - 4, data.rfind(b"trak", 0, at) - 4):
                struct.pack_into(">I", grown, parent, int.from_bytes(data[parent : parent + 4], "big") + len(box) - 36)
            data = bytes(grown)
        (d / f"{name}.mp4").write_bytes(data)


def _stills(d: Path) -> None:
    """Single and moving pictures as phones and browsers write them."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=168x112", "-frames:v", "1", "-q:v", "2", d / "photo.jpg")
    plain = (d / "photo.jpg").read_bytes()
    for orientation in range(1, 9):
        tag = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
        (d / f"photo_{orientation}.jpg").write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(tag) + 2) + tag + plain[2:])
    for name, turns in {"plain": [], "turned": [(b"irot", 3)], "both": [(b"irot", 1), (b"imir", 0)], "mirrored": [(b"imir", 1)]}.items():
        heic(d / f"{name}.heic", b"".join(struct.pack(">I4sB", 9, *turn) for turn in turns))
    far = struct.pack(">I4sQ", 1, b"free", (1 << 64) - 1)
    (d / "far_box.mp4").write_bytes((d / "av.mp4").read_bytes() + far)
    (d / "far_box_first.mp4").write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + far)
    heic(d / "too_few_tiles.heic", sizes=(128, 300, 180))
    data, tile = (d / "plain.heic").read_bytes(), b"\0\2\2\x81\2"  # the properties of item 2
    (d / "no_size.heic").write_bytes(data.replace(tile, b"\0\1" + tile[2:]))
    (d / "pattern").mkdir()
    (d / "pattern" / "photo%d.jpg").write_bytes(plain)
    ffmpeg("-f", "lavfi", "-i", "smptebars=size=168x112", "-frames:v", "1", d / "pattern" / "photo1.jpg")
    half = "color=red:size=168x112,format=rgba,geq=r=255:g=0:b=0:a='if(lt(X,84),0,255)'"
    ffmpeg("-f", "lavfi", "-i", half, "-frames:v", "1", d / "half_transparent.png")
    uneven = ["-vf", "setpts='floor(N/2)*110+mod(N,2)*10'", "-fps_mode", "vfr", "-final_delay", "100"]
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=112x112:rate=100:duration=0.1", *uneven, d / "uneven.gif")
    ffmpeg(*video(1), "-c:v", "libwebp_anim", d / "moving.webp")
    ffmpeg(*video(2), "-c:v", "flv1", d / "no_key_flags.swf")


def heic(target: Path, turns: bytes = b"", sizes: tuple[int, int, int] = (128, 200, 180)) -> None:
    """A HEIC photo of 200 x 180 pixels in four tiles: red, green; blue, white (ISO 23008-12). `turns`: boxes of properties."""

    def box(kind: bytes, *content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)

    side, width, height = sizes
    tiles, still = [], target.with_suffix(".mp4")
    for colour in ("red", "lime", "blue", "white"):
        lossy = ["-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p", "-tag:v", "hvc1"]
        ffmpeg("-f", "lavfi", "-i", f"color={colour}:s={side}x{side}", "-frames:v", "1", *lossy, still)
        data = still.read_bytes()
        found = {kind: data.find(kind) for kind in (b"hvcC", b"mdat")}
        ends = {kind: at - 4 + int.from_bytes(data[at - 4 : at], "big") for kind, at in found.items()}
        tiles.append(data[found[b"mdat"] + 4 : ends[b"mdat"]])
        hvcc = data[found[b"hvcC"] - 4 : ends[b"hvcC"]]
    still.unlink()
    kinds = [box(b"infe", struct.pack(">IHH4sx", 2 << 24, 1 + i, 0, b"hvc1" if i else b"grid")) for i in range(5)]
    extents = [box(b"ispe", struct.pack(">III", 0, w, h)) for w, h in ((side, side), (width, height))]
    own = bytes([3, *range(0x84, 0x84 + turns.count(b"imir") + turns.count(b"irot"))])
    used = struct.pack(">IIHB", 0, 5, 1, len(own)) + own + b"".join(struct.pack(">HBBB", 2 + i, 2, 0x81, 2) for i in range(4))
    grid = struct.pack(">BBBBHH", 0, 0, 1, 1, width, height)

    def meta(at: int) -> bytes:
        places = struct.pack(">IBBHHHHHII", 1 << 24, 0x44, 0, 5, 1, 1, 0, 1, 0, len(grid))
        for i, tile in enumerate(tiles):
            places += struct.pack(">HHHHII", 2 + i, 0, 0, 1, at + sum(map(len, tiles[:i])), len(tile))
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", struct.pack(">IH", 0, 1)),
            box(b"iloc", places),
            box(b"iinf", struct.pack(">IH", 0, 5), *kinds),
            box(b"iref", bytes(4), box(b"dimg", struct.pack(">6H", 1, 4, 2, 3, 4, 5))),
            box(b"iprp", box(b"ipco", hvcc, *extents, turns), box(b"ipma", used)),
            box(b"idat", grid),
        )

    head = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    target.write_bytes(head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", *tiles))


def _without_sizes(source: Path, target: Path, decodable: bool) -> None:
    """A copy whose header says 0 x 0 pixels; the decoder still finds the size in its own header, unless that is wiped as well."""
    data = bytearray(source.read_bytes())
    entry, track = data.find(b"avc1", data.find(b"stsd")), data.find(b"tkhd")
    data[entry + 28 : entry + 32], data[track + 80 : track + 88] = bytes(4), bytes(8)
    if not decodable:
        at = data.find(b"avcC")
        size = int.from_bytes(data[at - 4 : at], "big") - 8
        data[at + 4 : at + 4 + size] = bytes(size)
    target.write_bytes(data)


def _tracks(d: Path) -> None:
    programs = ["-program", "title=One:st=0:st=1", "-program", "title=Two:st=2:st=3", "-b:a:0", "16k", "-b:a:1", "64k"]
    maps = [word for i in range(4) for word in ("-map", str(i))]
    ffmpeg(
        *video(4), *tone(4), *video(4, "smptebars", "64x64"), *noise(4, 2), *maps, *X264, "-c:a", "aac", *programs, d / "two_programs.ts"
    )
    still = ["-f", "lavfi", "-i", "smptebars=size=64x64:rate=25:duration=0.04"]
    ffmpeg(*still, *video(2), "-map", "0", "-map", "1", *X264, "-disposition:v:1", "0", d / "poster.mp4")
    foreign = (d / "av.mp4").read_bytes().replace(b"avc1", b"xyz1").replace(b"avcC", b"xyzC")
    (d / "foreign.mp4").write_bytes(foreign)
    (d / "all_foreign.mp4").write_bytes(foreign.replace(b"mp4a", b"xyz2").replace(b"esds", b"xyzd"))
    ffmpeg("-i", d / "long.srt", "-c", "copy", d / "only_subtitles.mkv")
    default = ["-disposition:a:0", "default", "-disposition:a:1", "default", "-b:a:0", "16k", "-b:a:1", "64k"]
    ffmpeg(*video(2), *tone(2), *noise(2, 2), "-map", "0", "-map", "1", "-map", "2", *X264, "-c:a", "aac", *default, d / "two_defaults.mp4")
