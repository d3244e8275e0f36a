# Keys, certificates and kubeconfig files of the cluster, in the manner of kubeadm. To be sourced
# after common.sh. Nothing here is meant to protect anything: the cluster lives for a test run on a
# machine of one's own.

# certificate NAME SUBJECT EXTENSIONS: a key NAME.key and a certificate NAME.crt of the cluster's
# authority.
certificate() {
    local pki=$1 name=$2 subject=$3 extensions=$4
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$subject" \
        -keyout "$pki/$name.key" -out "$pki/$name.csr" 2>/dev/null
    openssl x509 -req -in "$pki/$name.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAserial "$pki/ca.srl" -CAcreateserial -days 3650 \
        -extfile <(printf '%s\n' "$extensions") -out "$pki/$name.crt" 2>/dev/null
    rm "$pki/$name.csr"
}

# kubeconfig FILE PKI NAME: a kubeconfig that holds all it needs, so that the file can be carried
# elsewhere.
kubeconfig() {
    local file=$1 pki=$2 name=$3
    (
        umask 077
        cat >"$file" <<CONFIG
apiVersion: v1
kind: Config
clusters:
  - name: gantry
    cluster:
      server: https://$NODE_IP:$API_PORT
      certificate-authority-data: $(base64 --wrap 0 "$pki/ca.crt")
users:
  - name: $name
    user:
      client-certificate-data: $(base64 --wrap 0 "$pki/$name.crt")
      client-key-data: $(base64 --wrap 0 "$pki/$name.key")
contexts:
  - name: gantry
    context: { cluster: gantry, user: $name }
current-context: gantry
CONFIG
    )
}

# make_certificates PKI: everything, once per cluster.
make_certificates() {
    local pki=$1 client='extendedKeyUsage=clientAuth' server='extendedKeyUsage=serverAuth'
    mkdir -p "$pki"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj /CN=gantry-cluster \
        -keyout "$pki/ca.key" -out "$pki/ca.crt" 2>/dev/null
    openssl genrsa -out "$pki/service-accounts.key" 2048 2>/dev/null
    local names="DNS:localhost,DNS:$NODE,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    certificate "$pki" apiserver /CN=kube-apiserver "$server
subjectAltName=$names,IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP"
    certificate "$pki" kubelet-server "/CN=$NODE" "$server
subjectAltName=DNS:$NODE,IP:$NODE_IP"
    certificate "$pki" admin /O=system:masters/CN=admin "$client"
    certificate "$pki" apiserver-kubelet /O=system:masters/CN=kube-apiserver-kubelet "$client"
    certificate "$pki" controller-manager /CN=system:kube-controller-manager "$client"
    certificate "$pki" scheduler /CN=system:kube-scheduler "$client"
    certificate "$pki" kubelet "/O=system:nodes/CN=system:node:$NODE" "$client"
    local name
    for name in controller-manager scheduler kubelet; do
        kubeconfig "$pki/$name.conf" "$pki" "$name"
    done
}
