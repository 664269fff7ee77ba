"""`v2l bench quality`: the same questions answered from the adapter, with the video in the prompt, with fewer frames in
the prompt and with no video, scored against references and compared with statistics (v2l/README.md section 8).

It flows plan -> arms -> answers -> score -> results -> table, page; `run` asks what the file of answers does not hold,
`sweep` and `finetuned` go through it again with other frames and with another kind of adapter, `bench` wires it all.
"""
