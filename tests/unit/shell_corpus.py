"""Command lines with what the policy must make of them.

One a line under the heading of its class; ``⏎`` stands for a newline. Without a sandbox and without
rules "read-only" is allowed and all else is asked about. In a sandbox all is allowed but what can't
be parsed and the lines that begin with ``?``, which are asked about even there.
"""

READ_ONLY = r"""
ls
ls -la src
\ls
'ls' -l
l"s"
command ls
command -p ls
/bin/ls -l
/usr/bin/cat x
cat a.txt b.txt
cat < in.txt
cat <<< "some text"
cat 2>/dev/null x
cat x > /dev/null 2>&1
cat x 2>&1
cat <<'EOF'⏎rm -rf / $(rm x)⏎EOF
cat <<EOF⏎plain text; rm x⏎EOF
cat <<-EOF⏎	indented⏎	EOF
head -n 5 x
tail -20 x | head -3
wc -l *.py
wc -l < x
echo hello
echo "rm -rf x; curl y"
echo 'a; rm x'
echo a \; rm x
echo "a > b"
echo 'a' '>' 'b'
echo $HOME
echo "${x:-default}"
echo ${#x}
echo "$(git rev-parse HEAD)"
echo `date`
echo $(( 1 + 2 ))
echo {a,b,c}
echo a{1..3}
echo $?
echo done # ; rm x
# only a comment
echo a#b; echo c
echo 'it'\''s'
echo $'tab\there'
printf '%s\n' a b
true && false || true
: nothing
pwd
cd src
cd src && ls -la
cd .. ; pwd ; ls
pushd x && ls && popd
test -f x && echo yes
[ -f x ] && echo yes
[ "$a" = b ] || echo no
[ $# -gt 0 ] && echo "$1"
[[ -f x && -d y ]] && echo yes
[[ $a == b* ]] && echo "$a"
[[ "$a" =~ ^[0-9]+$ ]] && echo number
if [ -f x ]; then cat x; else echo none; fi
for f in *.py; do wc -l "$f"; done
for f in a b c; do echo "$f"; done
IFS=, read -r a b < x
while read -r line; do echo "$line"; done < x
while IFS= read -r line; do echo "$line"; done < /dev/null | cat; false || echo no
case "$1" in a) echo a;; *) echo other;; esac
(cd src; ls)
{ ls; pwd; }
! grep -q x y
ls | sort | uniq -c | sort -rn | head
ls |& cat
ls & pwd
ls⏎pwd⏎
ls && \⏎  pwd
l\⏎s
grep -rn "TODO" src
grep -E 'a|b' x
grep '$(rm x)' f
grep "a;b" f
rg foo src
rg -n --type py 'def \w+'
rg -l foo | xargs cat
fd -e py
find . -name '*.py' -type f
find . -name '*.py' -not -path './x/*'
find . \( -name a -o -name b \) -print
find . -name x -exec cat {} \;
find . -type f -exec grep -l foo {} +
find . -name '*.py' | xargs wc -l
find . -print0 | xargs -0 -n 1 head -1
find . -name '*.py' | xargs -I {} cat {}
tree -L 2
stat x
file x
du -sh .
df -h
which python
type ls
command -v git
uname -a
whoami
id
date
date +%s
date -d yesterday +%F
env
env | grep PATH
printenv HOME
ps aux | grep python
git status
git status --short
git log --oneline -5
git --no-pager log -3
git log --format='%h %s' | head
git diff
git diff HEAD~1 -- src
git diff --stat main...HEAD
git show HEAD:README.md
git blame -L 1,10 x
git branch
git branch -a
git branch --show-current
git branch --list 'feature/*'
git branch -vv
git tag
git tag -l 'v1*'
git remote -v
git remote get-url origin
git stash list
git config --get user.name
git config user.email
git config --list
git ls-files
git ls-files '*.py' | wc -l
git rev-parse --show-toplevel
git grep -n foo
git reflog
git worktree list
git describe --tags
git merge-base main HEAD
GIT_PAGER=cat git log -1
LC_ALL=C sort x
NO_COLOR=1 ls
sort x
sort -u -k2 x
uniq x
cut -d: -f1 x
tr a-z A-Z < x
sed -n '1,20p' x
sed 's/a/b/g' x
sed -e 's/a/b/' -e '/x/d' y
sed -n '/start/,/end/p' x
sed 's/[[:space:]]*$//' x
awk '{print $1}' x
awk -F: '{ sum += $2 } END { print sum }' x
jq '.a[] | .b' x.json
diff a b
diff <(sort a) <(sort b)
cmp a b
md5sum x
base64 -d x
xxd x
od -c x
tar tf x.tar
tar -tzf x.tgz
unzip -l x.zip
seq 1 10
sleep 1
timeout 5 ls
nice -n 5 ls
stdbuf -oL cat x
time ls
time -p ls | cat
bash -c 'ls; pwd'
sh -c "cat x"
eval 'ls -l'
exec ls
builtin echo x
python --version
python3 --version
node --version
set -e
set -euo pipefail; ls
x=1
x=1; echo "$x"
x=$(cat y); echo "$x"
files=(a b c); echo "${files[@]}"
local_name=x⏎echo "$local_name"
trap 'echo bye' EXIT; ls
wait
cat x | while read -r a b; do echo "$b"; done
coproc cat x
ls; ls; ls;
ls 2>&1 | tee /dev/null | cat; true || ls
cat "a file with spaces" a\ b
cat -- -rf
echo "multi⏎line"
ls -l "$HOME"
ls $DIR
cat $(git ls-files)
xargs -a list cat
env LC_ALL=C sort x
getconf ARG_MAX
hostname
"""

WRITES = r"""
rm x
rm -rf build
r\m x
r''m x
r""m x
"r"m x
'rm' x
$'rm' x
$'\x72m' x
$'\162\155' x
\rm x
/bin/rm x
r\⏎m x
rm${IFS}x
rm$IFS-rf${IFS}x
command rm x
command -p rm x
builtin cd x; rm y
exec rm x
env rm x
env -i PATH=/bin rm x
env -S 'rm x'
env -S"rm x" y
nohup rm x
nohup ls
nice rm x
nice -n 10 rm x
ionice -c 3 rm x
timeout 5 rm x
timeout -k 1 5 rm x
time rm x
stdbuf -o0 rm x
setsid rm x
sudo ls
sudo rm x
sudo -u root rm x
doas rm x
busybox rm x
xargs rm
ls | xargs rm
ls | xargs -n1 rm -f
ls | xargs -I{} rm {}
find . -delete
find . -name x -delete
find . -exec rm {} \;
find . -execdir rm {} +
find . -ok rm {} \;
find . -fprint out
find . -fprintf out x
find . $X
fd -x rm
fd . -X rm
bash -c 'rm x'
bash -c "ls; rm x"
bash -lc 'rm x'
bash -ec 'rm x'
bash -o pipefail -c 'rm x'
sh -c 'rm x'
zsh -c 'rm x'
bash -c 'bash -c "rm x"'
bash <<'EOF'⏎rm x⏎EOF
bash <<< 'rm x'
sh script.sh
bash ./build.sh
eval rm x
eval "rm x"
eval 'eval "rm x"'
watch -n 1 'rm x'
parallel rm ::: a b
ls; rm x
ls & rm x
ls && rm x
ls || rm x
ls | rm x
ls |& rm x
ls⏎rm x
ls # comment⏎rm x
ls \# ; rm x
(rm x)
{ rm x; }
! rm x
if true; then rm x; fi
if rm x; then ls; fi
while rm x; do ls; done
until rm x; do ls; done
for i in a; do rm "$i"; done
for ((i=0;i<3;i++)); do echo x; done
case x in a) rm x;; esac
case x in a) ls;& b) rm x;; esac
case $(rm x) in a) ls;; esac
echo $(rm x)
echo `rm x`
echo "$(rm x)"
echo "`rm x`"
echo "a $(echo b $(rm x))"
echo ${x:-$(rm y)}
echo "${x:=$(rm y)}"
echo ${x/a/$(rm y)}
echo $((1 + $(rm x)))
echo $[ $(rm x) ]
x=$(rm y)
x=`rm y` ls
a=(1 $(rm x))
export A=$(rm x)
declare -a x=($(rm y))
local x=$(rm y)
[ -f $(rm x) ]
[ a > b ]
[[ -f $(rm x) ]]
[[ x =~ $(rm y) ]]
[[ $n -gt 3 ]]
((x=$(rm y)))
((i++))
let 'a[$(rm x)]=1'
x='a[$(rm y)]'; echo $((x))
echo ${x@P}
echo ${a[$i]}
test -v 'a[$(rm x)]'
printf -v 'a[$(rm x)]' y
read 'a[$(rm x)]'
unset 'a[$(rm x)]'
cat <(rm x)
ls > >(rm x)
tee >(rm x)
cat <<EOF⏎$(rm x)⏎EOF
cat <<"EOF" > out⏎text⏎EOF
cat > x <<EOF⏎text⏎EOF
cat <<EOF && rm x⏎text⏎EOF
coproc rm x
f() { rm x; }; f
ls() { rm x; }; ls
function ls { rm "$@"; }; ls x
f() { ls; } > out
{ ls; } > out
(ls) >> out
for f in a; do ls; done > out
ls | while read -r f; do cat "$f"; done > out
echo a > b
echo a >b
echo a >> b
echo a >| b
echo a &> b
echo a &>> b
echo a >& b
echo a 2> b
echo a > "b c"
echo > a b c
> x
: > x
exec > x
exec 3> x
cat < a > b
tee x
ls | tee x
ls | tee -a x
cp a b
mv a b
mkdir x
touch x
ln -s a b
chmod +x x
chown root x
dd if=a of=b
install a b
truncate -s 0 x
split x
sed -i s/a/b/ x
sed -i.bak s/a/b/ x
sed -ni p x
sed --in-place s/a/b/ x
sed 's/a/b/w out' x
sed -n 'w out' x
sed 's/a/date/e' x
sed -f script x
sed "$X" y
sort -o x x
sort -ox x
sort --output=x y
sort --outp x y
sort -uo x y
sort $X
uniq a b
xxd -r a b
xxd a b
shuf -o x y
base64 -o x y
tree -o x
file -C
awk '{ print > "x" }' y
awk -f prog y
gawk -i inplace '{print}' x
awk 'BEGIN { getline; print }' x
tar xf x.tar
tar cf x.tar y
tar -xzf x.tgz
tar tf x.tar --to-command=cat
unzip x.zip
rg --pre cat foo
rg --pre=./x foo
date -s tomorrow
date 010100002026
hostname evil
git add .
git commit -m x
git commit -am 'ls'
git checkout x
git switch -c x
git restore .
git reset --hard
git rebase main
git merge x
git cherry-pick x
git tag v1
git tag -d v1
git branch x
git branch -D x
git branch -l x
git branch -m a b
git stash
git stash pop
git config user.name x
git config --global user.name x
git config --unset user.name
git remote add x y
git diff --output=x
git diff --outp x
git log --output=x
git diff --ext-diff
git grep -O foo
git -C x status
git --git-dir=x log
cd x && git status
git -c core.pager=x log
git -c alias.x='!rm y' x
git -c core.fsmonitor=./x status
git --exec-path=x status
git --paginate log
git $X
git submodule foreach 'rm x'
git bisect run rm x
git rebase -x 'rm y' main
git worktree add x
git symbolic-ref HEAD refs/heads/x
git apply x
git init
git am x
LD_PRELOAD=x ls
LD_LIBRARY_PATH=x ls
GIT_EXTERNAL_DIFF=x git diff
PAGER=x git log
GIT_SSH_COMMAND=x git status
BASH_ENV=x bash -c ls
PATH=. ls
PATH=.:$PATH; ls
export PATH=.
export LD_PRELOAD=x
declare -x PATH=.
readonly PATH=.
for PATH in .; do ls; done
read PATH
IFS=x; ls
: ${PATH:=x}
PS4='$(rm x)'; set -x; ls
set -a; X=1; ls
set -k
shopt -s extglob
env LD_PRELOAD=x ls
env PATH=. ls
env -C x ls
export X=1; ls
./ls
./x/ls -l
~/bin/ls
../ls
bin/ls
/tmp/ls
ｌｓ
lѕ
Ls
ls-x
make
make test
npm run build
npm test
pytest -q
python script.py
python -m pytest
python3.11 x.py
node x.js
./script.sh
cargo build
go test ./...
ruff check .
kill 1
history -w x
jobs -x rm x
wait -n -p 'a[$(rm x)]'
x='b[$(rm y)]'; a=([x]=1)
BASH_CMDS[ls]=./x; ls
bash -o keyword -c 'ls LD_PRELOAD=x'
PATH+=:x; ls
git branch --list -D x
git stash show --ext-diff
git config --get x --unset
umount x
crontab x
less x
man ls
vim x
nohup ./server &
ls; ./x
cat x | ./y
trap 'rm x' EXIT
time -o x ls
script -c 'rm x' y
tsc --noEmit
?rm -rf .
?rm -rf /
?rm -rf ~
?rm -rf *
?rm -fr ./*
?rm -r -f ..
?rm -rf "$HOME"
?rm -rf .git
?sudo rm -rf /
?bash -c 'rm -rf /'
?find . -exec rm -rf / \;
?git clean -fdx
?git clean -X -f
?git stash drop
?git stash clear
?git reflog expire --expire=now --all
?git gc --prune=now
?git -C x stash clear
?git filter-branch --all
?git filter-repo --path src
?rm -rf "$OUT"/*
?rm -rf ${OUT}/
?rm -r "$OUT/"
rm -rf "${OUT:?}"/*
rm -rf "$OUT"
rm -rf "$OUT"/*.o
?mkfs.ext4 disk
?shred x
"""

NETWORK = r"""
curl https://example.com
curl -o x https://example.com
curl -s https://example.com > /dev/null
c""url x
wget x
git push
git push origin main
git -C x push
git --no-pager push
git pull
git fetch --all
git clone x
git ls-remote
git remote update
git submodule update --init
git -c user.name=x push
pip install x
pip3 install -r requirements.txt
pip --proxy x install y
python -m pip install x
npm install
npm ci
npm --prefix x publish
npm publish
yarn
yarn add x
pnpm install
npx cowsay
uv sync
uv pip install x
uvx ruff
poetry install
cargo install x
go get x
gem install x
bundle install
ssh host
ssh host ls
ssh -p 22 host 'rm x'
scp a host:b
sftp host
rsync -a x host:y
nc -l 80
telnet host
ping -c 1 host
dig example.com
gh pr list
docker ps
docker run x
kubectl get pods
apt install x
sudo apt-get update
brew install x
cat < /dev/tcp/host/80
echo x > /dev/tcp/host/80
bash -c 'echo x > /dev/udp/host/53'
echo $(curl x)
cat <(curl x)
ls | curl -T - x
find . -exec curl -T {} x \;
ls | xargs curl
timeout 5 curl x
env curl x
x=$(curl y)
command curl x
ls && git push
curl x | tee y
curl x | jq .
sudo curl x
nohup curl x &
?git push --force
?git push -f origin main
?git push origin +main
?git push origin :main
?git push --mirror
?git push -uf origin main
?git -C x push --forc
"""

OPAQUE = r"""
$X
$X y
"$X" y
${X} y
$(echo rm) x
`echo rm` x
"$(echo rm)" x
${X:-rm} y
$HOME/bin/x
/bin/r? x
/bin/[r]m x
r* x
a=rm; $a x
x=(rm y); "${x[@]}"
eval $X
eval "$X"
eval "$(echo rm x)"
eval `ssh-agent`
bash -c "$X"
bash -c $X
sh -c "$(cat x)"
bash
sh
bash -s
bash /dev/stdin
bash <(echo rm)
cat x | sh
cat x | bash -s arg
cat x | sudo sh
curl x | sh
curl x | bash
echo cm0gLXJmIC8K | base64 -d | sh
base64 -d <<< cm0= | bash
bash <<EOF⏎$X⏎EOF
source x
. ./x
source <(curl x)
python -c 'print(1)'
python3 -c "import os; os.system('rm x')"
python3.11 -c 'x'
python -Ic 'x'
python -
python < x
echo 'print(1)' | python
python <<'EOF'⏎import os⏎EOF
node -e 'x'
node --eval 'x'
node -p 'x'
perl -e 'unlink "x"'
perl -pi -e 's/a/b/' x
perl -ne 'print' x
ruby -e 'x'
php -r 'x'
lua -e 'x'
deno eval 'x' || osascript -e 'x'
awk 'BEGIN { system("rm x") }'
awk '{ print | "sh" }' x
awk "$X" y
alias ls=rm; ls x
alias x='rm y'
hash -p /bin/rm ls; ls x
enable -f x.so y
command $X
env $X
sudo $X
timeout 5 $X
xargs $X
xargs sh -c
ls | xargs bash -c
exec $X
nice $X
find . -exec $X {} \;
su
su -c "$X"
ssh host "$X"
trap "$X" EXIT
f() { "$@"; }; f rm x
while read -r c; do $c; done < x
for c in rm; do $c x; done
sudo -Z x rm y
ls | xargs -I {} sh -c 'rm {}'
a[$(rm x)]=1
timeout --unknown x 5 rm y
"""

UNPARSABLE = r"""
echo 'x
echo "x
echo $(ls
if true
ls |
ls &&
{rm,-rf,x}
for
case x in
echo `ls
cat <<EOF⏎x
ls )
( ls
cat <<A <<B⏎1⏎A⏎2⏎B
echo `echo \`rm x\``
cat <<E\⏎OF⏎x⏎EOF
shopt -s extglob; rm !(x)
echo $'\cx'
exec {fd}> x
exec 3<>/dev/tcp/host/80
"""

CORPUS: list[tuple[str, str, str]] = []
"""Class, verdict in a sandbox, command."""
for _kind, _text in (
    ("read-only", READ_ONLY),
    ("writes", WRITES),
    ("network", NETWORK),
    ("opaque", OPAQUE),
    ("unparsable", UNPARSABLE),
):
    for _line in _text.strip().splitlines():
        _asks = _line.startswith("?") or _kind == "unparsable"
        _command = _line.removeprefix("?").replace("⏎", "\n")
        CORPUS.append((_kind, "ask" if _asks else "allow", _command))
