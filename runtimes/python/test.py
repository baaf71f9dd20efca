import json, sys

match sys.version_info:
    case (3, *_):
        print(json.loads('{"answer": "OK"}')["answer"])
