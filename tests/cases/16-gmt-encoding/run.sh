#!/bin/bash
. "$CASES/lib.sh"; HERE=$CASES/$(basename "$(dirname "$0")"); export REPO PYTHONPATH=$REPO/scripts:$CASES
cd "$HERE"
bad=0
for f in latin1.gmt utf16.gmt gz.gmt.gz; do
"$PY" - $f <<'PYEND'
import sys
import os; from locate import module; pathways = module('build_pathways'); config = module('parse_settings')
genes=sorted(f'G{i}' for i in range(30))
try: p,_,r=pathways.build_pathways(config.defaults('pathways',source=sys.argv[1]),genes,os.environ['REPO']+'/resources/go'); print(sys.argv[1],'->',p.names,[len(i) for i in p.index]); sys.exit(0 if len(p.names)==2 else 3)
except Exception as e:
    own='slide2rna' in type(e).__module__; print(sys.argv[1],'->',type(e).__name__,str(e)[:160]); sys.exit(0 if own else 3)
PYEND
rc=$?; [ $rc != 0 ] && bad=1; done
[ $bad = 1 ] && fail "UnicodeDecodeError with a traceback"
pass "read, or one line"
