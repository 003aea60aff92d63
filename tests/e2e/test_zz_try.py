from tests.support import replies as r
def test_hello(kimi, serve):
    server = serve([r.text("Hello.")])
    run = kimi("-p", "hi", server=server)
    print(run)
    assert run.code == 0, run
    server.check()
