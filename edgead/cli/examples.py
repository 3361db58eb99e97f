"""Examples: two for each verb, shown at the end of its help."""

EXAMPLES = {
    "studio": ("edgead studio", "edgead studio caps --port 8090 --no-browser"),
    "demo": ("edgead demo -o out/demo", "edgead demo --data my_parts -o out/demo"),
    "data": ("edgead data show my_parts", "edgead data show labels.csv --json"),
    "train": (
        "edgead train good_images -o model",
        "edgead train good_images -o model --preset fast --defects known_rejects",
    ),
    "presets": ("edgead presets", "edgead presets --json"),
    "screen": ("edgead screen pile -o ranked", "edgead screen pile -o ranked --backbone default"),
    "commission": (
        "edgead commission camera:0 -o model",
        "edgead commission camera:0 -o model --images 60 --roi 100,50,800,600",
    ),
    "cycle": ("edgead cycle press.mp4 -o model", "edgead cycle frames/ -o model --period 2.4 --fps 20"),
    "import": (
        "edgead import weights/onnx/model.onnx -o model --good good_images",
        "edgead import other.onnx -o model --good good_images --colour rgb --white 1 --map heat --score score",
    ),
    "export": (
        "edgead export model good_images --precision int8",
        "edgead export model --standalone verdict.onnx --size 640x480",
    ),
    "predict": ("edgead predict model new_images --heat-maps heat_maps", "edgead predict model part.png --json"),
    "stream": (
        "edgead stream model camera:0 --sink 'images:rejects?only=reject'",
        "edgead stream model recording.mp4 --sink jsonl:verdicts.jsonl",
    ),
    "eval": ("edgead eval model my_parts", "edgead eval model my_parts --sheet mistakes.jpg"),
    "report": ("edgead report model my_parts -o report.html", "edgead report model my_parts --json"),
    "verify": ("edgead verify model", "edgead verify model good_images --all"),
    "profile": ("edgead profile model", "edgead profile model --rate 30 --duration 60 --samples frames.csv"),
    "daemon": ("edgead daemon -c site.yaml --check", "edgead daemon -c site.yaml"),
    "user": ("edgead user add anna --role operate", "edgead user list"),
    "evidence": (
        "edgead evidence report store -o report.html",
        "edgead evidence export store -o rejects --decision reject --images",
    ),
    "audit": ("edgead audit verify store", "edgead audit export store -o audit.jsonl"),
    "calibrate": (
        "edgead calibrate model new_good_images",
        "edgead calibrate model new_good_images --false-reject-rate 0.02 --dry-run",
    ),
    "teach": ("edgead teach model wrongly_rejected --sheet lesson.jpg", "edgead teach model --marked store --dry-run"),
    "defects": (
        "edgead defects good_images -o made --count 100",
        "edgead defects good_images --from rejects --method anogen --set weights=stable-diffusion -o made",
    ),
    "sort": ("edgead sort model rejects -o kinds", "edgead sort model --store store --since 2026-11-01 -o kinds"),
    "name": ("edgead name model --examples kinds kind-01=scratch", "edgead name model scratch='scratch, deep'"),
    "push": (
        "edgead push model oci://registry.plant/line/caps:stable",
        "edgead push model oci://registry.plant/line/caps:canary --json",
    ),
    "pull": (
        "edgead pull oci://registry.plant/line/caps:stable -o model",
        "edgead pull oci://registry.plant/line/caps:canary -o model --json",
    ),
    "fleet": (
        "edgead fleet status --broker mqtts://broker.plant",
        "edgead fleet promote oci://registry.plant/line/caps --from canary --to stable --broker mqtts://broker.plant",
    ),
    "key": ("edgead key new -o site.key", "edgead key show site.pub"),
    "sign": ("edgead sign model --key site.key", "edgead sign model --key site.key --product caps --by anna"),
    "verify-signature": (
        "edgead verify-signature model --key site.pub",
        "edgead verify-signature model --key site.pub --json",
    ),
    "doctor": ("edgead doctor", "edgead doctor --no-cameras"),
    "engine": ("edgead engine model", "edgead engine model --target sm86"),
}
